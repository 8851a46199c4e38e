"""Records: one JSON per run and benchmark, read as data."""

import json
import math
from pathlib import Path


def read_record(path: Path, signature: str) -> dict | None:
    """The record of the run with this signature, or None: a file that is no such record is as good as none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    good = isinstance(record, dict) and record.get("format") == 1 and record.get("signature") == signature
    return record if good and record.get("scores") else None


def to_json(value):
    """The value with an infinite PSNR (of identical images) as null, for JSON has no infinity."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None) -> float:
    """A score of a record as a number."""
    return math.inf if value is None else value
