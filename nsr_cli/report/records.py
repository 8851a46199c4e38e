"""Records: one JSON per run and benchmark, read as data."""

import contextlib
import json
import math
from pathlib import Path

from nsr_cli.engine.conventions import Convention


def read_record(path: Path, signature: str, benchmark: str, conventions: list[Convention]) -> dict | None:
    """The record of a run on a benchmark, or None: a file that is not exactly that is as good as none.

    A run that diverged has a record without scores, which says so under ``diverged``.

    Args:
        path: the file.
        signature: of the run.
        benchmark: its name, as it stands in records.
        conventions: that its scores must be by.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        good = (record["format"], record["signature"], record["benchmark"]) == (1, signature, benchmark)
        if isinstance(record.get("diverged"), str):
            return record if good and record["scores"] == {} else None
        found = [score["convention"] for score in record["scores"].values()]
        numbers = [score["psnr"] for score in record["scores"].values()]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    expected = [convention.spelled_out() for convention in conventions]
    good = good and found == expected and all(isinstance(n, (int, float, type(None))) for n in numbers)
    return record if good else None


def seeds_in(folder: Path) -> dict[str, int]:
    """The seed of every training that has a record in a folder, by its signature."""
    found = {}
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # what is no record is as good as none
            record = json.loads(path.read_text(encoding="utf-8"))
            found[record["signature"]] = record["config"]["training"]["seed"]
    return found


def to_json(value):
    """The value with an infinite PSNR (of identical images) as null, for JSON has no infinity."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None) -> float:
    """A score of a record as a number."""
    return math.inf if value is None else value
