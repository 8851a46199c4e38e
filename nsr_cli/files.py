"""Writing that survives a crash, and folders that only one process works in."""

import contextlib
import glob
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nsr_cli.errors import Held, UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there takes its place, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    with naming(path, temporary):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Have what the system refuses name the file that it is about: "no space left" does not by itself.

    Args:
        path: of the file.
        temporary: what it is called while it is written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename == str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


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
    for path in folder.glob(f".{glob.escape(stem)}*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json_lines(path: Path) -> list[dict]:
    """The objects of a file with one in each line; without lines that were torn by a crash or damaged."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found += [content] if isinstance(content := json.loads(line), dict) else []
    return found


@contextlib.contextmanager
def hold(folder: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that works in ``folder``; the system lets go when the process ends, however it ends.

    Raises:
        Held: another process has it, and ``wait`` is false.
    """
    from filelock import FileLock, Timeout  # not for every start of the program

    lock, note = FileLock(folder / "lock"), folder / "holder"  # apart: Windows lets nobody read a locked file

    def acquire(timeout: float) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # someone removed the folder while it was empty
                lock.acquire(timeout, poll_interval=0.2)
                return

    try:
        acquire(timeout=0)
    except Timeout:
        who = ""
        with contextlib.suppress(OSError):  # it has not said yet, or ends just now
            who = note.read_text(encoding="utf-8")
        holder = f"{folder.resolve()} is held by {who or 'another process'}"
        if not wait:
            raise Held(f"{holder}; not waiting (wait=true would)") from None
        say(f"{holder}; waiting for it (wait=false leaves)")
        acquire(timeout=-1)
    try:
        with naming(note):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}", encoding="utf-8")
        sweep_up(folder)
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def lock_of(path: Path) -> Path:
    """The file that stands for the right to make a file."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Be the only process that makes a file; the system lets go when the process ends, however it ends.

    Yields:
        Whether it is, which ``wait`` makes sure of. Another may have made the file meanwhile.
    """
    from filelock import FileLock, Timeout  # not for every start of the program

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_of(path))
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.2)
    except Timeout:
        yield False
        return
    try:
        sweep_up(path.parent, f"{path.name}.")
        yield True
    finally:
        with contextlib.suppress(OSError):  # Windows keeps it while it is held
            Path(lock.lock_file).unlink()
        lock.release()
