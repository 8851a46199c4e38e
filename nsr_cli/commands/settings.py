"""From a composed config to what a run is: checked knobs, a signature, a folder, a place for its records."""

import difflib
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nsr_cli.errors import UserError

# What a knob may be: (types, test, in words). Null is allowed where the words say so.
ABOVE_ZERO, WHOLE, FROM_ZERO = "a number above 0", "a whole number above 0", "a whole number, 0 or above"
KNOBS = {
    "scale": (int, lambda v: v in (2, 3, 4), "2, 3 or 4"),
    "sigma": ((int, float), lambda v: 0 < v <= 255, "a number above 0, up to 255"),
    "quality": (int, lambda v: 1 <= v <= 100, "a whole number from 1 to 100"),
    "groups": (int, lambda v: v > 0, WHOLE),
    "cardinality": (int, lambda v: v > 0, WHOLE),
    "tau": ((int, float), lambda v: 0 < v < float("inf"), ABOVE_ZERO),
    "blocks": (int, lambda v: v > 0, WHOLE),
    "units": (int, lambda v: v > 0, WHOLE),
    "width": ((int, float), lambda v: 0 < v < float("inf"), ABOVE_ZERO),
    "epochs": ((int, type(None)), lambda v: v is None or v > 0, f"{WHOLE}, or null"),
    "steps": ((int, type(None)), lambda v: v is None or v > 0, f"{WHOLE}, or null"),
    "patches_per_image": (int, lambda v: v > 0, WHOLE),
    "batch": (int, lambda v: v > 0, WHOLE),
    "patch": (int, lambda v: v >= 20, "a whole number, 20 or above"),
    "learning_rate": ((int, float), lambda v: 0 < v < float("inf"), ABOVE_ZERO),
    "lr_factor": ((int, float), lambda v: 0 < v <= 1, "a number above 0, up to 1"),
    "seed": (int, lambda v: 0 <= v < 2**31, FROM_ZERO),
    "precision": (str, lambda v: v in ("fp32", "bf16"), "fp32 or bf16"),
    "threads": ((int, type(None)), lambda v: v is None or v > 0, f"{WHOLE}, or null"),
    "checkpoint_minutes": ((int, float), lambda v: v >= 0, "a number, 0 or above"),
    "wait": (bool, lambda v: True, "true or false"),
    "dry_run": (bool, lambda v: True, "true or false"),
    "rescore": (bool, lambda v: True, "true or false"),
    "save_images": (bool, lambda v: True, "true or false"),
    "explain": (bool, lambda v: True, "true or false"),
}
TRAINING = "train epochs patches_per_image steps batch patch learning_rate lr_drops lr_factor precision seed".split()


def check(cfg: DictConfig) -> None:
    """Raise UserError for the first knob whose value cannot be."""
    for name, (types, test, expected) in KNOBS.items():
        if name not in cfg:
            continue
        value = cfg[name]
        is_flag = isinstance(value, bool) and types is not bool
        if not isinstance(value, types) or is_flag or not test(value):
            raise UserError(f"{name}={value}: expected {expected}")
    if cfg.steps is None and cfg.epochs is None:
        raise UserError("steps=null and epochs=null: expected one of them, to know how long to train")
    drops = cfg.lr_drops
    if not OmegaConf.is_list(drops) or not all(isinstance(d, (int, float)) and 0 < d <= 1 for d in drops):
        raise UserError(f"lr_drops={drops}: expected a list of fractions of the training, above 0 and up to 1")
    if not OmegaConf.is_list(cfg.benchmarks) or not cfg.benchmarks:
        raise UserError(f"benchmarks={cfg.benchmarks}: expected a list of data sets, as in benchmarks=[set5,set14]")
    if cfg.task.name not in cfg.model.tasks:
        can = ", ".join(cfg.model.tasks)
        raise UserError(f"task={cfg.task.name}: model={cfg.model.name} is not for it; it does: {can}")
    if not cfg.model.trained and cfg.ckpt:
        raise UserError(f"ckpt={cfg.ckpt}: model={cfg.model.name} has no weights to read")


def identity(cfg: DictConfig) -> dict:
    """All that affects a result, resolved, and nothing else: what a signature signs and a record keeps."""
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
        training = {name: cfg[name] for name in TRAINING} | {"lr_drops": list(cfg.lr_drops)}
        signed["training"] = {"protocol": cfg.protocol.name, **training, "train": Path(str(cfg.train)).name}
    return _plain(signed)


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
        return path, _sha256(str(path))
    level = cfg.task.get("scale") or cfg.task.get("sigma") or cfg.task.get("quality")
    known = cfg.model.get("published", {}).get(cfg.task.name, {})
    chosen = known.get("any") or known.get(level)
    if chosen is None:
        found = ", ".join(map(str, known)) or "none"
        where = f"model={cfg.model.name} task={cfg.task.name}"
        raise UserError(f"ckpt=published: no weights known for {where} at {level}; there are: {found}")
    return Path(cfg.data) / chosen.file, chosen.sha256


@functools.lru_cache
def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"ckpt={path}: cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class Run:
    """A run's identity and its places.

    Attributes:
        name: <model>-<task>-<first 8 digits of the signature>.
        signature: SHA-256 of the identity.
        identity: what is signed.
        budget: protocol of its training, or "untrained"; records of different budgets lie in different folders.
        folder: its weights, checkpoints and logs.
        records: the folder of its records.
    """

    name: str
    signature: str
    identity: dict
    budget: str
    folder: Path
    records: Path

    def record(self, benchmark: str) -> Path:
        return self.records / f"{self.name}--{Path(benchmark).name}.json"


def run_of(cfg: DictConfig) -> Run:
    signed = identity(cfg)
    signature = hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
    name = f"{cfg.model.name}-{cfg.task.name}-{signature[:8]}"
    budget = signed["training"]["protocol"] if "training" in signed else "untrained"
    results = Path(cfg.results)
    return Run(name, signature, signed, budget, results / "runs" / name, results / "records" / budget)


def register_resolvers() -> None:
    """``${nsr_run:}``: the name of a config's run, for the folders that Hydra makes."""
    OmegaConf.register_new_resolver("nsr_run", lambda *, _root_: run_of(_root_).name, replace=True)


def closest(word: str, words: list[str]) -> str:
    """`` (did you mean x?)``, or nothing."""
    match = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {match[0]}?)" if match else ""
