"""Running the command line inside of the test's process."""

import shlex
from dataclasses import dataclass

import pytest

from nsr_cli import cli

TINY = ["blocks=1", "units=4", "width=1", "steps=6", "batch=2", "threads=1"]


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def nsr(tmp_path, monkeypatch, capfd):
    """Call ``nsr`` with a command line in an empty folder; data and results lie there too, unless overridden."""
    for name in ("NSR_PROTOCOL", "NSR_RESULTS", "NSR_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> Result:
        capfd.readouterr()
        code = cli.run(shlex.split(line))
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def tiny() -> str:
    """Overrides that make a run of a second."""
    return " ".join(TINY)
