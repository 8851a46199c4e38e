"""From a composed config to what a run is: checked knobs, a signature, a folder, a place for its records."""

import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from nsr_cli.data.catalog import DATASETS, find, images_in, is_folder
from nsr_cli.errors import UserError
from nsr_cli.folders import PLUGINS, package_folder

# What a knob may be: (types, test, in words).
ABOVE_ZERO, WHOLE, FROM_ZERO = "a number above 0", "a whole number above 0", "a whole number, 0 or above"
FLAGS = (
    "learn_tau shared_gate wait dry_run weights rescore save_images explain run save networks tensorboard compile "
    "deterministic"
).split()
NUMBER, NONE = (int, float), type(None)
LAST_SEED = 2**31 - 1


def is_seed(value: int | None) -> bool:
    return value is not None and 0 <= value <= LAST_SEED


KNOBS = {
    "scale": (int, lambda v: v in (2, 3, 4), "2, 3 or 4"),
    "sigma": (NUMBER, lambda v: 0 < v <= 255, "a number above 0, up to 255"),
    "quality": (int, lambda v: 1 <= v <= 100, "a whole number from 1 to 100"),
    "groups": (int, lambda v: v > 0, WHOLE),
    "cardinality": (int, lambda v: v > 0, WHOLE),
    "tau": (NUMBER, lambda v: 0 < v < float("inf"), ABOVE_ZERO),
    "gate_hidden": (int, lambda v: v >= 0, FROM_ZERO),
    "form": (str, lambda v: v in ("reduced", "exact"), "reduced or exact"),
    "inference": (str, lambda v: v in ("soft", "hard"), "soft or hard"),
    "blocks": (int, lambda v: v > 0, WHOLE),
    "units": (int, lambda v: 0 < v <= 2**14, f"{WHOLE}, up to {2**14}"),
    "width": (NUMBER, lambda v: 0 < v <= 2**10, f"{ABOVE_ZERO}, up to {2**10}"),
    "epochs": ((int, NONE), lambda v: v is None or v > 0, f"{WHOLE}, or null"),
    "steps": ((int, NONE), lambda v: v is None or v > 0, f"{WHOLE}, or null"),
    "patches_per_image": (int, lambda v: v > 0, WHOLE),
    "batch": (int, lambda v: v > 0, WHOLE),
    "patch": (int, lambda v: v >= 20, "a whole number, 20 or above"),
    "channels": (int, lambda v: v > 0, WHOLE),
    "size": (int, lambda v: v > 0, WHOLE),
    "rounds": (int, lambda v: v > 0, WHOLE),
    "learning_rate": (NUMBER, lambda v: 0 < v < float("inf"), ABOVE_ZERO),
    "lr_factor": (NUMBER, lambda v: 0 < v <= 1, "a number above 0, up to 1"),
    "seed": (int, is_seed, f"a whole number from 0 to {LAST_SEED}"),
    "precision": (str, lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "validate_every": (int, lambda v: v > 0, WHOLE),
    "train": (str, bool, "a data set or a folder"),
    "ckpt": ((str, NONE), lambda v: v != "", "a file, published, or null"),
    "device": (str, bool, "auto, cpu, cuda, cuda:1, ..."),
    "data": (str, bool, "a folder"),
    "results": (str, bool, "a folder"),
    "threads": ((int, NONE), lambda v: v is None or 0 < v <= 1024, f"{WHOLE}, up to 1024, or null"),
    "checkpoint_minutes": (NUMBER, lambda v: v >= 0, "a number, 0 or above"),
    **dict.fromkeys(FLAGS, (bool, lambda v: True, "true or false")),
    "format": (str, lambda v: v in ("markdown", "latex", "csv"), "markdown, latex or csv"),
    "crop": (int, lambda v: v >= 8, "a whole number, 8 or above"),
    "image": ((str, NONE), lambda v: v != "", "a file name, or null"),
}
LISTS = {
    "benchmarks": (str, bool, "a list of data sets, as in benchmarks=[set5,set14]"),
    "lr_drops": (NUMBER, lambda v: 0 < v <= 1, "a list of fractions of the training, above 0 and up to 1"),
    "seeds": ((int, NONE), is_seed, f"a list of whole numbers from 0 to {LAST_SEED}, as in seeds=[0,1,2], or null"),
    "runs": ((str, NONE), bool, "a list of overrides, as in \"runs=['groups=2','groups=4']\", or null"),
}
GROUPS = ("task", "model", "sparsity", "protocol")
TRAINING = "train epochs patches_per_image steps batch patch learning_rate lr_drops lr_factor precision seed".split()


def check_knobs(cfg: DictConfig, several: tuple[str, ...] = ()) -> None:
    """Raise UserError for the first knob whose value cannot be, whichever verb's config it is in.

    ``several``: knobs of which the verb takes a list of values.
    """
    for group in GROUPS:
        if group in cfg and not OmegaConf.is_dict(cfg[group]):
            options = sorted(path.stem for path in (package_folder("conf") / group).glob("*.yaml"))
            raise UserError(
                f"{group}={'null' if cfg[group] is None else cfg[group]}: expected one of {', '.join(options)}"
            )
    for name, (types, test, expected) in KNOBS.items():
        for path in (name, f"task.{name}", f"sparsity.{name}"):  # the groups hold what is used in the end
            group = path.rpartition(".")[0]
            knobs = cfg.get(group) if group else cfg
            if knobs is None or name not in knobs or (group and knobs[name] is None):
                continue
            value = knobs[name]
            if path in several:
                if not OmegaConf.is_list(value) or not value or not all(_fits(v, types, test) for v in value):
                    raise UserError(f"{path}={value}: expected a list in brackets, of {expected} each")
            elif not _fits(value, types, test):
                raise UserError(f"{path}={'null' if value is None else value}: expected {expected}")
    for name, (types, test, expected) in LISTS.items():
        if name in cfg:
            values = cfg[name]
            if values is None and isinstance(None, types):
                continue
            if not OmegaConf.is_list(values) or not values or not all(_fits(v, types, test) for v in values):
                raise UserError(f"{name}={values}: expected {expected}")


def _fits(value: object, types: type | tuple, test: Callable[..., bool]) -> bool:
    return isinstance(value, types) and (types is bool or not isinstance(value, bool)) and bool(test(value))


def check(cfg: DictConfig, trains: bool) -> None:
    """Raise UserError for what no run can be: a knob out of range, or two that do not go together."""
    check_knobs(cfg)
    if (cfg.steps is None) == (cfg.epochs is None):
        raise UserError(f"steps={cfg.steps} and epochs={cfg.epochs}: expected one of them, and null for the other")
    if "width" in cfg and int(cfg.units * cfg.width) < 1:
        raise UserError(f"width={cfg.width}: expected at least 1/{cfg.units}, for one channel inside of a block")
    if cfg.task.name not in cfg.model.tasks:
        can = ", ".join(cfg.model.tasks)
        raise UserError(f"task={cfg.task.name}: model={cfg.model.name} is not for it; it does: {can}")
    if cfg.inference == "hard" and cfg.sparsity.groups == 1:
        raise UserError(f"inference=hard: sparsity={cfg.sparsity.gate} has one group; there is nothing to choose from")
    if not cfg.model.trained and cfg.sparsity.gate != "none":
        raise UserError(f"sparsity={cfg.sparsity.gate}: model={cfg.model.name} has no convolutions to make sparse")
    if not cfg.model.trained and cfg.ckpt:
        raise UserError(f"ckpt={cfg.ckpt}: model={cfg.model.name} has no weights to read")
    if trains and not is_folder(cfg.train) and find(cfg.train).role == "test":
        good = ", ".join(name for name, dataset in DATASETS.items() if dataset.role == "train")
        raise UserError(
            f"train={cfg.train}: a benchmark; training on it voids its scores; to train on there are: {good}"
        )
    if trains and (cfg.ckpt or not cfg.model.trained):
        what = f"ckpt={cfg.ckpt}" if cfg.ckpt else f"model={cfg.model.name}"
        raise UserError(f"{what}: nothing to train; `nsr eval` scores it")


def identity(cfg: DictConfig) -> dict:
    """All that affects a run's weights, resolved, and nothing else: what its signature signs."""
    plain = OmegaConf.to_container(cfg.model.network, resolve=True)
    network = {key: value for key, value in plain.items() if not key.startswith("_")}
    signed = {
        "task": OmegaConf.to_container(cfg.task, resolve=True),
        "model": {"name": cfg.model.name, **network},
    }
    if "gate" not in network and cfg.sparsity.gate != "none":  # sparse convolutions attached to another network
        signed["sparsity"] = OmegaConf.to_container(cfg.sparsity, resolve=True)
    if cfg.ckpt:
        signed["weights"] = weights_file(cfg)[1]
        if cfg.sparsity.gate != "none":
            signed["tile"] = cfg.patch
    elif cfg.model.trained:
        training = {name: cfg[name] for name in TRAINING}
        training |= {"lr_drops": list(cfg.lr_drops), "train": data_name(cfg.train)}
        signed["training"] = {"protocol": cfg.protocol.name, **training}
    return _plain(signed)


def data_name(name: str) -> str:
    """What stands for a data set in signatures and file names: its name, or for a folder of the user's own the
    folder's name and a digest of its images."""
    if not is_folder(name):
        return name
    folder = Path(name).expanduser()
    return f"{folder.resolve().name}-{digest_of(images_in(folder))[:8]}"


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of images: their names, sizes, and the first 64 KiB of each, for there may be many gigabytes."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + file.read(2**16))
    return digest.hexdigest()


def _plain(value):
    """The value with 1.0 written as 1, so that tau=1 and tau=1.0 are one run."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def weights_file(cfg: DictConfig) -> tuple[Path, str]:
    """(file, SHA-256) of `ckpt`: a file here or below the data folder, or `published` weights that we know.

    The sum of published weights is known without the file, so that their records are found where the file is not.
    """
    if cfg.ckpt != "published":
        path = next((p for p in (Path(cfg.ckpt), Path(cfg.data) / cfg.ckpt) if p.is_file()), Path(cfg.ckpt))
        return path, sha256(str(path))
    level = cfg.task.get("scale") or cfg.task.get("sigma") or cfg.task.get("quality")
    known = {str(key): file for key, file in cfg.model.get("published", {}).get(cfg.task.name, {}).items()}
    chosen = known.get("any") or known.get(f"{level:g}")  # keys are text in a job, whose config was JSON
    if chosen is None:
        found = ", ".join(known) or "none"
        where = f"model={cfg.model.name} task={cfg.task.name}"
        raise UserError(f"ckpt=published: no weights known for {where} at {level}; there are: {found}")
    return Path(cfg.data) / chosen.file, chosen.sha256


def check_share(batch: int, processes: int) -> None:
    """Raise UserError unless a batch can be cut into as many equal shares as there are processes."""
    if batch % processes:
        raise UserError(f"batch={batch}: expected a multiple of {processes}, the processes that share it")


@functools.lru_cache
def sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"ckpt={path}: cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class Identity:
    """What is signed, its SHA-256, and <model>-<task>-<first 8 digits of that>."""

    signed: dict
    signature: str
    name: str


def identify(cfg: DictConfig, signed: dict) -> Identity:
    signature = hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
    return Identity(signed, signature, f"{cfg.model.name}-{cfg.task.name}-{signature[:8]}")


@dataclass(frozen=True)
class Run:
    """A run's identities and its places.

    Attributes:
        weights: identity of what is trained (or read).
        scores: identity of what is scored; another one where the same weights are evaluated in another way.
        budget: protocol of its training, or "untrained"; records of different budgets lie in different folders.
        folder: its weights, checkpoints and logs.
        records: the folder of its records.
    """

    weights: Identity
    scores: Identity
    budget: str
    folder: Path
    records: Path

    def record(self, benchmark: str) -> Path:
        """The file of a benchmark's record, whether it is there or not."""
        return self.records / f"{self.scores.name}--{data_name(benchmark)}.json"


def run_of(cfg: DictConfig) -> Run:
    weights = scores = identify(cfg, identity(cfg))
    if cfg.inference == "hard":
        scores = identify(cfg, {**weights.signed, "inference": "hard"})
    budget = weights.signed["training"]["protocol"] if "training" in weights.signed else "untrained"
    results = Path(cfg.results)
    return Run(weights, scores, budget, results / "runs" / weights.name, results / "records" / budget)


def with_seed(cfg: DictConfig, run: Run, seed: int) -> Run:
    """The same run with another seed, found faster than from a config of its own."""
    found = []
    for signed in (run.weights.signed, run.scores.signed):
        found.append(identify(cfg, signed | {"training": signed["training"] | {"seed": seed}}))
    weights, scores = found
    return Run(weights, scores, run.budget, Path(cfg.results) / "runs" / weights.name, run.records)


def introduce_to_hydra() -> None:
    """Our plugins, and resolvers of our configs.

    ``${nsr_scratch:}`` is a folder for what Hydra writes and nobody reads, until the process ends; ``${nsr_groups:}``
    lists the groups of a config for its help, where Hydra would list those of all configs.
    """
    if PLUGINS.is_dir() and str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    OmegaConf.register_new_resolver("nsr_scratch", lambda: _scratch().name, replace=True)
    OmegaConf.register_new_resolver("nsr_groups", lambda _root_: _groups(_root_), replace=True)


def _groups(config: DictConfig) -> str:
    loader = GlobalHydra.instance().config_loader()
    taken = [group for group in loader.list_groups("") if group in config and group != "hydra"]
    lines = [f"{group}: {', '.join(sorted(loader.get_group_options(group)))}\n" for group in sorted(taken)]
    return "".join(["Groups (GROUP=OPTION)\n\n", *lines, "\n"]) if lines else ""


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="nsr-")
