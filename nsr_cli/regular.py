"""Reading regular files alone: reading a device or a pipe may never end."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from nsr_cli.errors import UserError


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a folder, a device, a pipe or a socket.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a device, a pipe or a socket, not a regular file", str(path))
    return open(path, "rb")


def read_regular(path: str | Path) -> bytes:
    """The content of a regular file. Raises OSError as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        UserError: the file cannot be read; the text names it.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
