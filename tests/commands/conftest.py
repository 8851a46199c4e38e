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
def refused(nsr, tmp_path):
    """Bad input: a line that begins with a message, exit code 2, and nothing left behind."""

    def check(line: str, message: str) -> None:
        result = nsr(line)
        assert result.code == 2
        assert result.err.startswith(message), result.err
        assert result.err.count("\n") == 1 and result.err.endswith("\n")
        assert list(tmp_path.iterdir()) == []

    return check


@pytest.fixture
def tiny() -> str:
    """Overrides that make a run of a second."""
    return " ".join(TINY)
