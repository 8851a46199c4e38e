"""Record: the measured results of a run on a benchmark, in one JSON file, which counts only if it is undamaged.

The last entry of the file is a SHA-256 of all text before it. The means must equal those of the per-image values.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nsr_cli.engine.conventions import Convention, convention_of
from nsr_cli.files import write_text
from nsr_cli.regular import read_regular

FORMAT = 2
DIGEST = ',\n "digest": '
ENTRY_TYPES = {
    **dict.fromkeys(("run", "signature", "benchmark"), str),
    **dict.fromkeys(("spec", "scores", "made"), dict),
    **dict.fromkeys(("cost", "tiling", "gates", "trained"), dict | None),
    "seconds": int | float | None,
    "official_low_resolution": bool,
    "diverged": str | None,
}
NUMERIC_KEYS = {
    "cost": {"macs", "overhead", "parameters"},
    "tiling": {"side", "margin", "overlap"},
    "trained": {"steps", "patches", "seconds"},
}


class Damaged(Exception):
    """A file that is not an undamaged record; the text says what is wrong with it."""


@dataclass(frozen=True)
class Score:
    """The metrics of a benchmark by one convention.

    Attributes:
        means: over images, by metric: PSNR in dB (inf where all images are identical), SSIM up to 1.
        images: by file name, then by metric.
    """

    convention: Convention
    means: dict[str, float]
    images: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Record:
    """The results of a run on a benchmark.

    Attributes:
        run: name of the run that trained the weights.
        signature: of the Spec.
        spec: the signed content of the Spec.
        benchmark: its name in file names.
        scores: by the names of conventions; empty if the training diverged.
        made: date, device, versions, commit.
        cost: ``macs`` of convolutions per input pixel, ``overhead`` of gates and mixing, ``parameters``.
        tiling: ``side``, ``margin``, ``overlap`` in degraded pixels; None for methods that see whole images.
        gates: gate statistics by layer (see nsr_cli.engine.gate_stats); empty without gates; None if not measured.
        trained: ``steps``, ``patches``, ``seconds`` of the training.
        seconds: time that scoring took.
        official_low_resolution: whether the degraded images are the published ones.
        diverged: how the training diverged; None if it did not.
    """

    run: str
    signature: str
    spec: dict[str, Any]
    benchmark: str
    scores: dict[str, Score]
    made: dict[str, Any]
    cost: dict[str, float] | None = None
    tiling: dict[str, int] | None = None
    gates: dict[str, dict] | None = None
    trained: dict[str, float] | None = None
    seconds: float | None = None
    official_low_resolution: bool = False
    diverged: str | None = None
    format: int = FORMAT

    @property
    def seed(self) -> int | None:
        training = self.spec.get("training")
        return training and training["seed"]

    def covers(self, conventions: Sequence[Convention]) -> bool:
        """Whether the record has scores by all these conventions and all their metrics."""
        for expected in conventions:
            score = self.scores.get(expected.name)
            if score is None or not set(expected.metrics) <= score.means.keys():
                return False
            if score.convention.spelled_out() | {"metrics": ()} != expected.spelled_out() | {"metrics": ()}:
                return False
        return True

    def scores_text(self) -> str:
        """The mean scores of all conventions, in one line."""
        texts = []
        for name, score in self.scores.items():
            others = {"ssim": "SSIM {:.5f}", "ssim8": "SSIM 8x8 {:.5f}"}
            shown = [others.get(metric, f"{metric} {{:.5g}}").format(value) for metric, value in score.means.items()
                     if metric != "psnr"]  # fmt: skip
            texts.append("  ".join([f"{name}: {score.means['psnr']:.4f} dB", *shown]))
        return "   ".join(texts)


def first_psnr(records: Mapping[str, Record]) -> float | None:
    """Mean PSNR in dB of the first record by its first convention; None where there is no record."""
    return next((next(iter(record.scores.values())).means["psnr"] for record in records.values()), None)


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    content = asdict(record)
    for name, score in record.scores.items():
        content["scores"][name] = {"convention": score.convention.spelled_out(), **score.means, "images": score.images}
    text = json.dumps(_without_infinity(content), indent=1, allow_nan=False).removesuffix("\n}")
    write_text(path, text + DIGEST + _digest_line(text))


def read_record(path: Path) -> Record | None:
    """The record in a file; None if there is no file.

    Raises:
        Damaged: the file is unreadable, changed since it was written, or of another format.
    """
    try:
        return _parse_record(read_regular(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(f"it is not a record ({' '.join(str(error).split()) or type(error).__name__})") from None


def is_whole(path: Path) -> bool:
    """Whether a file is an undamaged record, by its digest alone."""
    try:
        text, found, digest = read_regular(path).decode().rpartition(DIGEST)
    except (OSError, ValueError):
        return False
    return bool(found) and digest == _digest_line(text)


@lru_cache(maxsize=8)  # a run's records are read to see what is missing, and again to be shown
def _parse_record(text: str) -> Record:
    content = json.loads(text, parse_constant=_refuse_constant)
    head, found, digest = text.rpartition(DIGEST)
    if content["format"] != FORMAT:
        raise Damaged(f"it has format {content['format']}; this version of nsr reads {FORMAT}")
    if not found or digest != _digest_line(head):
        raise Damaged("it was changed since it was written")
    del content["digest"]
    _check_entries(content)
    content["scores"] = {name: _parse_score(name, found) for name, found in content["scores"].items()}
    return Record(**content)


def _check_entries(content: dict) -> None:
    """Raise Damaged for an entry of the wrong type, which tables could not show."""
    for name, kind in ENTRY_TYPES.items():
        if not isinstance(content.get(name), kind):
            raise Damaged(f"its {name} is {str(content.get(name))[:40]}")
    for name, keys in NUMERIC_KEYS.items():
        found = content.get(name)
        if found is not None and (found.keys() != keys or not all(type(n) in (int, float) for n in found.values())):
            raise Damaged(f"its {name} is {str(found)[:40]}")
    training = content["spec"].get("training")
    if training is not None and not (type(training["seed"]) is type(training["batch"]) is int):
        raise Damaged(f"its spec has the training {str(training)[:40]}")


def _parse_score(name: str, content: dict) -> Score:
    convention, images = convention_of(content["convention"]), content["images"]
    images = {file: {metric: _parse_number(v) for metric, v in scores.items()} for file, scores in images.items()}
    means = {metric: _parse_number(v) for metric, v in content.items() if metric not in ("convention", "images")}
    for metric, mean in means.items():
        expected = math.fsum(scores[metric] for scores in images.values()) / len(images)
        if not math.isclose(mean, expected, rel_tol=1e-9):
            raise Damaged(f"the mean {metric} of {name} is {mean}, that of its images {expected}")
    return Score(convention, means, images)


def _parse_number(value: float | None) -> float:
    """A number from JSON, where null stands for the infinite PSNR of identical images."""
    number = math.inf if value is None else float(value)
    if value is not None and not (type(value) in (int, float) and math.isfinite(number)):
        raise ValueError(f"{value!r} is no number")
    return number


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _digest_line(text: str) -> str:
    """The end of a record's file, after DIGEST: the SHA-256 of the text before it."""
    return f'"{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'
