"""Records: one JSON per run and benchmark, read as data."""

import json
from pathlib import Path


def read_record(path: Path) -> dict | None:
    """The record, or None where there is none; a file that is no record is as good as none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) and record.get("format") == 1 else None
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
