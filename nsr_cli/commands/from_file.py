"""The values of `nsr eval`, `export` and `restore`, where ``ckpt=FILE`` says which network it holds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from hydra.errors import HydraException

from nsr_cli.commands.composing import parse_override
from nsr_cli.commands.config import path_of
from nsr_cli.commands.knobs import NETWORK, as_typed
from nsr_cli.errors import UserError
from nsr_cli.runs.spec import Spec

NOT_COMPARED = ("data", "init", "lr_drops")  # of a training: their signed form is not the typed one
OF_SCORING = ("inference", "tile", "tiling")


def keys_of(words: Iterable[str]) -> list[str]:
    """The keys that overrides name, each once."""
    return list(dict.fromkeys(parse_override(word).key_or_group for word in words))


def with_network_of_file(values: dict, words: Iterable[str], composer: Callable[[list[str]], dict]) -> dict:
    """The values of a config, with the task and the network that the Spec of the file ``ckpt`` names.

    Args:
        values: the resolved config.
        words: the overrides that it was composed from.
        composer: composes other overrides to values.

    Returns:
        The same values where ``ckpt`` names no file with a Spec. Benchmarks are those of the file's task and protocol,
        and inference and tiles those of the file, unless overrides name them.

    Raises:
        UserError: an override contradicts the file; or the file is damaged.
    """
    name, words = values["ckpt"], list(words)
    if not isinstance(name, str) or name in ("", "published") or not (path := path_of("ckpt", values)).is_file():
        return values
    from nsr_cli.runs.portable import find_own_spec  # imports torch

    known = [at_key(values, key) for key in ("model.network._target_", "task._target_", "sparsity.gate")]
    if (spec := find_own_spec(path, known)) is None:
        return values
    given = keys_of(words)
    check_agreement(path, spec, values, given)
    found = {**values, **groups_of(spec), **{k: getattr(spec, k) for k in OF_SCORING if k not in given}}
    if "benchmarks" in values and "benchmarks" not in given:
        own = {"task": spec.task["name"], "protocol": spec.training.protocol if spec.training else None}
        choices = [f"{group}={option}" for group, option in own.items() if option not in (None, values[group]["name"])]
        try:
            found["benchmarks"] = (composer([*words, *choices]) if choices else values)["benchmarks"]
        except HydraException:
            text = " ".join(choices)
            raise UserError(
                f"ckpt={name}: no configs for its {text}; expected --config-dir or benchmarks=..."
            ) from None
    return found


def groups_of(spec: Spec) -> dict[str, dict]:
    """The groups task, model and sparsity of a config whose Spec is a given one."""
    task = {key: value for key, value in spec.task.items() if key != "target"}
    network = {"_target_": spec.model.target, **spec.model.arguments, **({"sparsity": {}} if spec.model.sparse else {})}
    model = {"name": spec.model.name, "trained": True, "reads": spec.model.reads, "network": network}
    return {"task": {**task, "_target_": spec.task["target"]}, "model": model, "sparsity": spec.sparsity}


def check_agreement(path: Path, spec: Spec, values: Mapping, given: Iterable[str]) -> None:
    """Raise UserError for overrides of the task, the network or its training that differ from those of a Spec."""
    held, names = held_values(spec), {"task": "name", "model": "name", "protocol": "name", "sparsity": "gate"}
    differing = {}
    for key in filter(held.__contains__, given):
        value = values[key][names[key]] if key in names else at_key(values, key)
        if value != held[key]:
            differing[key] = value
    if differing:
        typed, own = (" ".join(f"{key}={as_typed(source[key])}" for key in differing) for source in (differing, held))
        raise UserError(f"{typed}: {path} holds {own}; leave out what the file says, or name another file")


def held_values(spec: Spec) -> dict:
    """What a Spec says of the keys of a config, by key; groups by the name of their option or gate."""
    arguments, training = spec.model.arguments, asdict(spec.training) if spec.training else {}
    task = {key: value for key, value in spec.task.items() if key not in ("name", "target")}
    knobs = {key: value for key, value in spec.sparsity.items() if key != "gate"}
    network = {"_target_": spec.model.target, **arguments}
    return {
        **{key: value for key, value in training.items() if key not in NOT_COMPARED},
        **{key: arguments[key] for key in NETWORK if key in arguments},
        **{f"model.network.{key}": value for key, value in network.items()},
        **task,
        **knobs,
        **{f"task.{key}": value for key, value in task.items()},
        **{f"sparsity.{key}": value for key, value in spec.sparsity.items()},
        **{"task": spec.task["name"], "model": spec.model.name, "sparsity": spec.sparsity["gate"]},
    }


def at_key(values: Mapping, key: str) -> object:
    """The value at a dotted key; None if there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
