"""What tests of commands share."""

import pytest

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
