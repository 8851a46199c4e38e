"""From the values of a composed config to a Run. Nothing below this room knows Hydra or OmegaConf."""

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nsr_cli.commands.knobs import DEGRADATION, RUN, SPARSITY, as_typed, check_knobs
from nsr_cli.data.catalog import all_datasets, find_dataset, is_folder, split_pair
from nsr_cli.data.identity import data_name
from nsr_cli.data.pairs import pair_text
from nsr_cli.engine.schedule import fraction_of
from nsr_cli.errors import UserError
from nsr_cli.folders import package_folder
from nsr_cli.names import is_of_nsr
from nsr_cli.regular import file_sha256
from nsr_cli.runs.run import REQUEST_KEYS, Request, Run
from nsr_cli.runs.spec import Model, Spec, Training, is_gated
from nsr_cli.tasks import task_of

_sha256 = functools.lru_cache(file_sha256)  # a file is read once for all cells of a sweep
GROUPS = ("task", "model", "sparsity", "protocol")
HELD = {"task": ("name", "_target_", "channels"), "protocol": ("name",)}  # keys that a group's config has
READS = ("rgb", "luma", "grey")  # what a method may read
MODEL_YAML = "name, trained (true or false), reads ([rgb], [luma] or [grey]), and network: with _target_ and arguments"
NETWORK_EXPECTED = "expected a network beside it, as in model=wdsr"
TRAINERS = ("train", "ablate")  # verbs that train; the other verbs of runs read trained weights
TRAINING = (
    "epochs", "patches_per_image", "steps", "batch", "patch", "learning_rate", "lr_factor", "precision", "seed"
)  # fmt: skip


def run_of(values: Mapping, verb: str) -> Run:
    """The run that a config of train, eval, ablate, export or restore asks for.

    Args:
        values: the resolved config: dicts, lists, numbers, texts.
        verb: of the command.

    Raises:
        UserError: a knob is out of range, or two knobs contradict each other.
    """
    check_groups(values)
    check_knobs(values, RUN)
    benchmarks = list(map(pair_text, values.get("benchmarks", [])))
    values = {**values, "train": pair_text(values["train"]), "benchmarks": benchmarks}
    check_together(values, trains=verb in TRAINERS)
    task = signed_task(values["task"])
    ckpt, weights = weights_of(values, task) if values["ckpt"] else (None, None)
    start, init = file_of("init", values) if values["init"] else (None, None)
    has_gates = is_gated(values["sparsity"]) or not is_of_nsr(str(values["model"]["network"]["_target_"]))
    trained = values["model"]["trained"] and not ckpt
    spec = Spec(
        task=task,
        model=model_of(values["model"]),
        sparsity=gate_of(values),
        training=training_of(values, task.get("scale", 1), init) if trained else None,
        weights=weights,
        tile=values["tile"] if has_gates else None,  # a user's network may have gates of its own
        inference=values["inference"],
        tiling=values.get("tiling", "usual"),
    )
    apart = ("ckpt", "init", "train", "metrics")
    same = {name: values[name] for name in REQUEST_KEYS if name in values and name not in apart}
    train = values["train"] if trained else ""
    same |= {"train": train, "metrics": values.get("metrics") or [], "may_train": verb in TRAINERS}
    return Run(spec, Request(**same, ckpt=ckpt, published=values["ckpt"] == "published", init=start))


def signed_task(group: Mapping) -> dict:
    """The task of a config as a Spec holds it."""
    arguments = {key: value for key, value in group.items() if key not in ("name", "_target_", "usual")}
    return {"name": group["name"], "target": group["_target_"], **arguments}


def check_groups(values: Mapping) -> None:
    """Raise UserError for a config group without a chosen option, or with a name unfit for file names."""
    for group in GROUPS:
        if not isinstance(values.get(group), Mapping):
            options = sorted(path.stem for path in (package_folder("conf") / group).glob("*.yaml"))
            raise UserError(f"{group}={as_typed(values.get(group))}: expected one of {', '.join(options)}")
        for key in HELD.get(group, ()):
            if key not in values[group]:
                raise UserError(f"{group}: no {key}; its config in conf/{group} has {', '.join(HELD[group])}")
        name = values[group].get("name", "x")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise UserError(f"{group}.name={as_typed(name)}: expected only letters, digits, _, - and ., for file names")
    if type(channels := values["task"]["channels"]) is not int or channels < 1:
        raise UserError(f"task.channels={as_typed(channels)}: expected a whole number above 0")
    if not isinstance(gate := values["sparsity"].get("gate"), str):
        raise UserError(f"sparsity.gate={as_typed(gate)}: expected the name of a gate, or of a function of your own")
    check_model(values["model"])


def check_model(model: Mapping) -> None:
    """Raise UserError for a config of a model, which may be a user's, that lacks a key or reads what nothing gives."""
    if missing := [key for key in ("name", "trained", "reads", "network") if key not in model]:
        raise UserError(f"model: no {missing[0]}; expected `# @package _global_`, then model: with {MODEL_YAML}")
    if not isinstance(model["network"], Mapping) or "_target_" not in model["network"]:
        raise UserError(f"model.network={as_typed(model['network'])}: expected _target_ and the arguments of the class")
    for key, kind, expected in (("trained", bool, "true or false"), ("tasks", list, "a list of tasks")):
        if not isinstance(model.get(key) or kind(), kind):
            raise UserError(f"model.{key}={as_typed(model[key])}: expected {expected}")
    if not (isinstance(model["reads"], list) and model["reads"] and all(kind in READS for kind in model["reads"])):
        raise UserError(f"model.reads={as_typed(model['reads'])}: expected a list of {', '.join(READS)}")


def check_level(values: Mapping, given: Iterable[str]) -> None:
    """Raise UserError for a level of degradation of a task that is neither chosen nor named, as in `restore sigma=25`.

    Args:
        values: the resolved config.
        given: the keys that overrides name.
    """
    given, task = set(given), values["task"]
    for key, knob in DEGRADATION.items():
        if key in given and key not in task and "task" not in given:
            own = knob.help.partition(":")[0]  # task=...
            raise UserError(f"{key}={as_typed(values[key])}: expected {own} beside it; this is task={task['name']}")


def check_together(values: Mapping, trains: bool) -> None:
    """Raise UserError for values that contradict each other.

    Args:
        values: the resolved config.
        trains: whether the verb trains.
    """
    task, model, gate = values["task"]["name"], values["model"], values["sparsity"]["gate"]
    if (values["steps"] is None) == (values["epochs"] is None):
        found = f"steps={as_typed(values['steps'])} and epochs={as_typed(values['epochs'])}"
        raise UserError(f"{found}: expected one of them, and null for the other")
    if "width" in values and int(values["units"] * values["width"]) < 1:
        raise UserError(f"width={values['width']}: expected at least 1/{values['units']}, for one channel in a block")
    if model.get("tasks") and task not in model["tasks"]:
        raise UserError(f"task={task}: model={model['name']} is not for it; it does: {', '.join(model['tasks'])}")
    if values["inference"] == "hard" and (values["sparsity"].get("groups") or 1) == 1:
        raise UserError(f"inference=hard: sparsity={gate} has one group; there is nothing to choose from")
    if not model["trained"] and gate != "none":
        raise UserError(
            f"sparsity={gate}: model={model['name']} has no convolutions to make sparse; {NETWORK_EXPECTED}"
        )
    if not model["trained"] and values["ckpt"]:
        if values["ckpt"] != "published" and not path_of("ckpt", values).exists():
            file_of("ckpt", values)  # says that there is no such file
        raise UserError(f"ckpt={values['ckpt']}: model={model['name']} has no weights to read; {NETWORK_EXPECTED}")
    if trains and not is_folder(values["train"]) and find_dataset(values["train"], Path(values["data"])).role == "test":
        good = ", ".join(
            name for name, dataset in all_datasets(Path(values["data"])).items() if dataset.role == "train"
        )
        raise UserError(
            f"train={values['train']}: a benchmark; training on it voids its scores; to train on there are: {good}"
        )
    pairs = [name for name in (values["train"], *values["benchmarks"]) if split_pair(name)[1]]
    if pairs and task != "sr":
        raise UserError(f"{pairs[0]}: low-resolution images are for task=sr; task={task} degrades the others itself")
    if values["init"] and (values["ckpt"] or not model["trained"]):
        raise UserError(f"init={values['init']}: there is no training that could start from it")
    if trains and (values["ckpt"] or not model["trained"]):
        what = f"ckpt={values['ckpt']}" if values["ckpt"] else f"model={model['name']}"
        raise UserError(f"{what}: nothing to train; `nsr eval` scores it")


def gate_of(values: Mapping) -> dict:
    """The knobs of the sparse convolutions. A user's gate has the usual ones, where its YAML says nothing of them."""
    group = values["sparsity"]
    if group["gate"] == "none":
        return {"gate": "none"}
    if "." not in group["gate"]:
        return group
    always = ("groups", "cardinality", "tau")
    usual = {name: values[name] for name, knob in SPARSITY.items() if name in always or values[name] != knob.default}
    return usual | group


def model_of(group: Mapping) -> Model:
    network = dict(group["network"])
    target, sparse = network.pop("_target_"), network.pop("sparsity", None) is not None
    if odd := [key for key in network if key.startswith("_")]:
        raise UserError(f"model.network.{odd[0]}: not an argument; expected _target_ and its arguments only")
    return Model(group["name"], target, network, list(group["reads"]), sparse)


def training_of(values: Mapping, scale: int, init: str | None) -> Training:
    return Training(
        init=init,
        protocol=values["protocol"]["name"],
        data=data_name(values["train"], Path(values["data"]), scale),
        lr_drops=[str(fraction_of(drop)) for drop in values["lr_drops"]],
        **{name: values[name] for name in TRAINING},
    )


def weights_of(values: Mapping, task: dict) -> tuple[str, str]:
    """(file, SHA-256) of `ckpt`: the file, as given or below the folder of data, or the `published` weights.

    The SHA-256 of published weights is known without their file, so that their records are found without it.
    """
    if values["ckpt"] != "published":
        return file_of("ckpt", values)
    level = task_of(task).level
    published = values["model"].get("published") or {}
    try:
        listed = published.get(task["name"], {}).items()
        known = {str(key): (str(Path(values["data"]) / file["file"]), str(file["sha256"])) for key, file in listed}
    except (AttributeError, TypeError, KeyError):
        expected = "by task, then by level or `any`, file: and sha256:, as in conf/model/dncnn.yaml"
        raise UserError(f"model.published={as_typed(published)}: expected {expected}") from None
    chosen = known.get("any") or known.get(f"{level:g}")
    if chosen is None:
        where = f"model={values['model']['name']} task={task['name']}"
        raise UserError(
            f"ckpt=published: no weights known for {where} at {level}; there are: {', '.join(known) or 'none'}"
        )
    return chosen


def file_of(key: str, values: Mapping) -> tuple[str, str]:
    """(file, SHA-256) of the file of weights that a key names, as given or below the folder of data."""
    path = path_of(key, values)
    try:
        return str(path), _sha256(path.absolute())
    except UserError as error:
        raise UserError(f"{key}={path}: cannot be read ({error.__context__.strerror})") from None


def path_of(key: str, values: Mapping) -> Path:
    """The path that a key names, as given or below the folder of data; it need not exist."""
    name = values[key]
    return next((p for p in (Path(name), Path(values["data"]) / name) if p.exists()), Path(name))
