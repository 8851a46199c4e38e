"""The names and digests of images in signatures and file names."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from nsr_cli.data.catalog import find_dataset, images_in, is_folder, locate, own_images, split_pair
from nsr_cli.data.datasets import DATASETS
from nsr_cli.data.pairs import lr_folder

SAMPLE = 2**16  # bytes at both ends of a file that identify it, beside its size; reading all takes long for gigabytes


def data_name(name: str, root: Path, scale: int = 1) -> str:
    """The name of a data set in signatures and file names.

    It is the name of the data set, the user's folder, or the pair's images. A folder, a data set of datasets.yaml, and
    one with given low-resolution images are named with a digest of all their images.
    """
    hr, lr = split_pair(name)[0], lr_folder(name, root, scale)
    if is_folder(hr):
        folder = Path(os.path.expanduser(hr))
        hr, images = folder.resolve().name, images_in(folder)
    elif lr is None and hr in DATASETS:
        return hr
    else:
        images = _present_images(hr, root)
    return f"{hr}-{digest_of([*images, *(images_in(lr) if lr else [])])[:8]}"


def _present_images(name: str, root: Path) -> list[Path]:
    dataset = find_dataset(name, root)
    if dataset.parts:
        return [path for part in dataset.parts for path in _present_images(part, root)]
    return own_images(dataset, locate(dataset, root))


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of images by their names, sizes, and the bytes at their ends."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} ".encode(errors="surrogateescape") + sample_of(path))
    return digest.hexdigest()


def sample_of(path: Path) -> bytes:
    """SHA-256 of a file's size and of the bytes at its ends."""
    found = os.stat(path)
    return _sample_of(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=100_000)  # the cells of a sweep ask for the same images
def _sample_of(path: Path, size: int, changed: int) -> bytes:
    digest = hashlib.sha256(f"{size}\n".encode())
    with open(path, "rb") as file:
        for start in (0, max(SAMPLE, size - SAMPLE)):
            file.seek(start)
            digest.update(file.read(SAMPLE))
    return digest.digest()
