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
from nsr_cli.regular import read_regular

MAX_NAME = 255  # bytes of a file's name, on all usual file systems


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``. The file written there replaces ``path`` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    with name_file_in_errors(path, temporary):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if os.name == "posix":  # Windows cannot open a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def temporary_of(path: Path) -> Path:
    """The file that this process writes before it replaces ``path``."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


@contextlib.contextmanager
def name_file_in_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name the file in an OSError that names none, as "no space left on device" does.

    Args:
        path: the name to show.
        temporary: the file's name while it is written; shown as ``path``.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename == str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def check_writable(name: str, folder: str) -> None:
    """Raise UserError unless files can be written in a folder, which need not exist yet.

    Args:
        name: the key that names the folder.
        folder: its value.
    """
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(f"{name}={folder}: cannot be written to ({error.strerror}: {there})") from None


def check_file(key: str, path: Path) -> None:
    """Raise UserError for a path, which a key names, where there is anything but a file that could be replaced."""
    if path.exists() and not path.is_file():
        raise UserError(f"{key}={path}: a {'folder' if path.is_dir() else 'device or a pipe'}; expected a file")


def check_name(key: str, path: Path, name: str) -> None:
    """Raise UserError for a file that could not be written because its name is too long.

    Args:
        key: the key that leads to it.
        path: of the file.
        name: the part of its name that the user chose.
    """
    if (length := len(os.fsencode(temporary_of(path).name))) > MAX_NAME:
        raise UserError(f"{key}: the name {name} makes one of {length} bytes; expected at most {MAX_NAME}")


def remove_temporary_files(folder: Path, stem: str = "") -> None:
    """Remove the temporary files of killed processes. The caller must hold the files that begin with ``stem``."""
    for path in folder.glob(f".{glob.escape(stem)}*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold any bytes


def write_json(path: Path, content: dict) -> None:
    """Write an object as JSON, whole or not at all. Raises ValueError for NaN and infinities."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json_lines(path: Path) -> list[dict]:
    """The JSON objects of a file, one per line, without damaged lines; empty where there is no file."""
    found = []
    if path.exists():
        for line in read_regular(path).decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                found += [content] if isinstance(content := json.loads(line), dict) else []
    return found


def append_json_line(path: Path, content: dict) -> None:
    """Append an object to a file of JSON lines. What a killed process began to write stays a line of its own."""
    with name_file_in_errors(path), open(path, "ab", buffering=0) as file:
        file.write(f"\n{json.dumps(content)}\n".encode())


@contextlib.contextmanager
def hold_folder(folder: Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold ``folder`` as the only process. The system releases it when the process ends, however it ends.

    Raises:
        Held: another process holds it, and ``wait`` is false.
    """
    from filelock import FileLock, Timeout  # imported late, for a fast start

    lock, note = FileLock(folder / "lock"), folder / "holder"  # two files: Windows lets nobody read a locked one

    def acquire(timeout: float) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process removed the empty folder
                lock.acquire(timeout, poll_interval=0.2)
                return

    try:
        acquire(timeout=0)
    except Timeout:
        who = ""
        with contextlib.suppress(OSError):  # the holder has not written it yet, or is ending
            who = read_regular(note).decode(errors="replace")
        holder = f"{folder.resolve()} is held by {who or 'another process'}"
        if not wait:
            raise Held(f"{holder}; not waiting (wait=true would)") from None
        say(f"{holder}; waiting for it (wait=false leaves)")
        acquire(timeout=-1)
    try:
        with name_file_in_errors(note):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            note.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}", encoding="utf-8")
        remove_temporary_files(folder)
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def lock_of(path: Path) -> Path:
    """The lock file by which a process claims to make a file."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def claim_file(path: Path, wait: bool) -> Iterator[bool]:
    """Claim to be the only process that makes a file. The system releases the claim when the process ends.

    Yields:
        Whether this process has the claim; always with ``wait``, but then another may have made the file before.
    """
    from filelock import FileLock, Timeout  # imported late, for a fast start

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_of(path))
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.2)
    except Timeout:
        yield False
        return
    try:
        remove_temporary_files(path.parent, f"{path.name}.")
        yield True
    finally:
        with contextlib.suppress(OSError):  # Windows removes no locked file
            Path(lock.lock_file).unlink()
        lock.release()
