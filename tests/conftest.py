"""Fixtures that every test folder shares."""

import os
import shlex
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from nsr_cli import cli


def pytest_configure() -> None:
    """Ctrl-C ends what the tests start also where it is ignored, as in the background of a script."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def nsr(tmp_path, monkeypatch, capfd):
    """Call ``nsr`` inside of the test's process, in an empty folder; data and results lie there, unless overridden."""
    for name in ("NSR_PROTOCOL", "NSR_RESULTS", "NSR_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> Result:
        capfd.readouterr()
        code = cli.run(shlex.split(line))
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def nsr_data() -> Path:
    """The folder of real benchmark images and published weights, or a skip that says how to get it."""
    folder = Path(os.environ.get("NSR_DATA", "data"))
    if not (folder / "Set5").is_dir():
        pytest.skip(f"needs the benchmark images: NSR_DATA={folder} has no Set5 folder")
    return folder
