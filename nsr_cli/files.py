"""Writing that survives a crash, and folders that only one process works in."""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from nsr_cli.errors import Held, UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there takes its place, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_writable(name: str, folder: str) -> None:
    """Raise UserError unless files can be written in a folder, which need not be there yet.

    Args:
        name: the key that names the folder.
        folder: its value.
    """
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(f"{name}={folder}: cannot be written to ({error.strerror}: {there})") from None


def sweep_up(folder: Path, stem: str = "") -> None:
    """Remove what a killed process was writing; for whoever alone may write files that begin with ``stem``."""
    for path in folder.glob(f".{stem}*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json_lines(path: Path) -> list[dict]:
    """The objects of a file with one in each line; without lines that were torn by a crash or damaged."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found += [content] if isinstance(content := json.loads(line), dict) else []
    return found


def _lock_file(folder: Path) -> TextIO:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # someone removed the folder while it was empty
            return open(folder / "lock", "a+", encoding="utf-8")


@contextlib.contextmanager
def hold(folder: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that works in ``folder``; the kernel lets go when the process ends, however it ends.

    Raises:
        Held: another process has it, and ``wait`` is false.
    """
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"{folder.resolve()} is held by {file.read().strip() or 'another process'}"
            if not wait:
                raise Held(f"{holder}; not waiting (wait=true would)") from None
            say(f"{holder}; waiting for it (wait=false leaves)")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        sweep_up(folder)
        yield
        file.truncate(0)
