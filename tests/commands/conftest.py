"""What tests of commands share."""

import shlex
import shutil
from pathlib import Path

import pytest
from kept import only_record

from nsr_cli import cli
from nsr_cli.runs.record import Record

TINY = ["blocks=1", "units=4", "width=1", "steps=6", "batch=2", "threads=1"]


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


@pytest.fixture(scope="session")
def _trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    line = f"ablate {' '.join(TINY)} protocol=smoke results={folder}/results data={folder}/data"
    assert cli.run(shlex.split(line)) == 0
    return folder / "results"


@pytest.fixture
def trained(_trained, tmp_path) -> Record:
    """What ``nsr ablate {tiny}`` leaves, in the folder of the test; the training itself is done once for all tests."""
    shutil.copytree(_trained, tmp_path / "results")
    return only_record(tmp_path)
