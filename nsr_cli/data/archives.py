"""Unpacking images from untrusted archives."""

import contextlib
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nsr_cli.data.catalog import IMAGE_SUFFIXES
from nsr_cli.data.fetch import MirrorFailed

MAX_ENTRIES = 100_000  # of an archive, wanted or not
MAX_BYTES = 8 << 30  # of all entries, unpacked
MAX_IMAGE_BYTES = 64 << 20  # of one image file, unpacked


def unpack(archive: Path, members: str, into: Path) -> None:
    """Unpack the wanted images of a zip or tar archive into one flat folder.

    Args:
        archive: the file.
        members: pattern of the wanted images (fnmatch on the whole path).
        into: the folder.

    Raises:
        MirrorFailed: the archive is damaged; an entry has an absolute path or leaves the folder; a wanted image is
            not a plain file; two images share a name; there are more entries or bytes than the limits above.
    """
    try:
        with contextlib.closing(_entries(archive)) as entries:
            total = 0
            for number, (name, kind, size, content) in enumerate(entries, 1):
                path = PurePosixPath(name.replace("\\", "/"))
                total += size
                if path.is_absolute() or ".." in path.parts:
                    raise MirrorFailed(f"hostile archive: the path {name!r} leaves the folder")
                if number > MAX_ENTRIES or total > MAX_BYTES:
                    raise MirrorFailed(f"hostile archive: over {MAX_ENTRIES} entries or {MAX_BYTES} bytes")
                if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or kind == "folder":
                    continue
                if not fnmatch(str(path), members):
                    continue
                if kind != "file" or ":" in path.name:
                    raise MirrorFailed(f"hostile archive: {name!r} is no plain file")
                if size > MAX_IMAGE_BYTES:
                    raise MirrorFailed(f"hostile archive: {name!r} unpacks to {size} bytes")
                if (into / path.name).exists():
                    raise MirrorFailed(f"two of its images are named {path.name}")
                with content() as source, (into / path.name).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except _BROKEN as error:
        raise MirrorFailed(f"broken archive: {error}") from error
    except OSError as error:
        if error.errno is None:  # bz2 reports damaged data in this way
            raise MirrorFailed(f"broken archive: {error}") from error
        raise


_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # an unknown compression of a zip
    RuntimeError,  # an encrypted zip
)


def _entries(archive: Path) -> Iterator[tuple[str, str, int, Callable[[], BinaryIO]]]:
    """The path, kind (folder, file, other), unpacked bytes and opener of each entry."""
    with archive.open("rb") as file:
        magic = file.read(2)
    if magic == b"PK":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                kind = "folder" if info.is_dir() else "file" if plain else "other"
                yield info.filename, kind, info.file_size, partial(opened.open, info)
    else:
        with tarfile.open(archive, "r:gz" if magic == b"\x1f\x8b" else "r:") as opened:
            for info in opened:
                kind = "folder" if info.isdir() else "file" if info.isreg() else "other"
                yield info.name, kind, info.size, partial(opened.extractfile, info)
