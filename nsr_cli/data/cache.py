"""A cache of images in a memory-mapped file: decoded and degraded once, for all trainings and processes.

images.bin holds the pixels of all images one after the other, an index as JSON, and a trailer of 20 bytes: the mark
b"nsrcache", the index's length and its CRC-32.
"""

import contextlib
import hashlib
import json
import math
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL

from nsr_cli.data import degrade, images
from nsr_cli.files import hold_folder, replacing
from nsr_cli.ops import color, resize

MARK = b"nsrcache"
TRAILER = struct.Struct("<8sQI")
SAY_EVERY = 10  # seconds between lines, while a cache is built


class Damaged(Exception):
    """A cache that differs from what was written; the text says where."""


def cached_images(
    folder: Path,
    name: str,
    sources: Sequence[Path],
    names: Sequence[str],
    make: Callable[[int], np.ndarray],
    report: Callable[[str], None] = print,
) -> list[np.ndarray]:
    """Images from a cache, which is built first if it is missing or damaged.

    Every checksum is verified each time; that takes seconds for gigabytes, and reads the file into memory. One process
    builds, and others wait for it. If no cache can be written, the images stay in memory.

    Args:
        folder: of all caches.
        name: of the images and their degradation, for example div2k_train-rgb-x2.
        sources: the files that the images are made from; their names, sizes and modification times identify the cache.
        names: of the images.
        make: returns the image of an index, uint8 (H, W[, C]).
        report: is called with each line of progress.

    Returns:
        The images, memory-mapped or in memory, to be read only.
    """
    identity = cache_identity(name, sources)
    path = folder / f"{name}-{identity[:8]}" / "images.bin"

    def report_waiting(text: str) -> None:
        report(f"{text.partition(';')[0]}, which builds the training images; waiting for them")

    try:
        with contextlib.suppress(FileNotFoundError, Damaged):
            return read_cache(path, identity)
        with hold_folder(path.parent, wait=True, say=report_waiting):
            try:
                return read_cache(path, identity)  # another process has built it meanwhile
            except FileNotFoundError:
                pass
            except Damaged as error:
                report(f"{path.resolve()} is damaged ({error}); building it again")
            write_cache(path, identity, names, make, report)
            return read_cache(path, identity)
    except (OSError, Damaged) as error:
        reason = getattr(error, "strerror", None) or error
        report(
            f"no cache of training images in {path.parent.absolute()} ({reason}); they stay in this process's memory"
        )
        return [make(number) for number in range(len(names))]


def cache_identity(name: str, sources: Sequence[Path]) -> str:
    """A SHA-256 of all that the pixels of a cache depend on: the files, and the code that turns them into pixels."""
    digest = hashlib.sha256(f"{name} Pillow {PIL.__version__} OpenCV {cv2.__version__}\n".encode())
    for module in (color, degrade, images, resize):  # so that no version number is to be raised by hand
        digest.update(Path(module.__file__).read_bytes())
    for path in sources:
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def write_cache(
    path: Path, identity: str, names: Sequence[str], make: Callable[[int], np.ndarray], report: Callable[[str], None]
) -> None:
    """Write a cache, whole or not at all, with one image in memory at a time."""
    start = last_report = time.monotonic()
    report(f"building {path.resolve()}: {len(names)} images")
    entries, offset = [], 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for number, name in enumerate(names):
            image = np.ascontiguousarray(make(number))
            file.write(image)
            entries.append((name, offset, image.shape, zlib.crc32(image)))
            offset += image.nbytes
            if time.monotonic() - last_report > SAY_EVERY:
                last_report = time.monotonic()
                report(f"  {number + 1} of {len(names)}")
        index = json.dumps({"identity": identity, "images": entries}).encode()
        file.write(index + TRAILER.pack(MARK, len(index), zlib.crc32(index)))
    report(f"  {offset / 2**20:,.0f} MiB in {time.monotonic() - start:.0f} s")
    older = sorted({*path.parents[1].glob(f"{path.parent.name[:-8]}????????")} - {path.parent})
    if older:  # not deleted here: another machine may be reading them
        listed = ", ".join(other.name for other in older)
        report(f"  beside it, of other files or another version of nsr; delete what no training uses: {listed}")


def read_cache(path: Path, identity: str) -> list[np.ndarray]:
    """The images of a cache, memory-mapped.

    Raises:
        FileNotFoundError: there is no cache.
        Damaged: a byte differs from what was written, or the cache has another identity.
    """
    size = path.stat().st_size
    if size < TRAILER.size:
        raise Damaged(f"it ends after {size} bytes")
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    mark, length, checksum = TRAILER.unpack(content[-TRAILER.size :])
    end = size - TRAILER.size - length
    if mark != MARK or end < 0:
        raise Damaged(f"its trailer before byte {size} is damaged")
    index = content[end : end + length].tobytes()
    if zlib.crc32(index) != checksum:
        raise Damaged("the index has a wrong checksum")
    index = json.loads(index)
    if index["identity"] != identity:
        raise Damaged("it is of other images")
    found = []
    for name, offset, shape, checksum in index["images"]:
        image = content[offset : min(offset + math.prod(shape), end)]
        if image.size != math.prod(shape) or zlib.crc32(image) != checksum:
            raise Damaged(f"{name} has a wrong checksum")
        found.append(image.reshape(shape))
    return found
