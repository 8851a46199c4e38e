"""``nsr`` in a process of its own, as typed in a terminal."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds; far more than anything here takes


def environment(**variables: str) -> dict[str, str]:
    """Whose nsr is this checkout's, with none of its settings but the given ones."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NSR_")}
    return own | {"PYTHONPATH": str(CHECKOUT)} | variables


def start(folder: Path, line: str, launcher: Sequence[str] = (), **variables: str) -> subprocess.Popen:
    command = [sys.executable, *launcher, "-m", "nsr_cli", *line.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(**variables), **pipes)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for its end: the exit code, and what it has said that nobody has read."""
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
