"""The names and digests of images in signatures and file names."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from nsr_cli.data.catalog import find_dataset, images_in, is_folder, locate, own_images, split_pair
from nsr_cli.data.pairs import lr_folder


def data_name(name: str, root: Path, scale: int = 1) -> str:
    """The name of a data set in signatures and file names.

    It is the name of the data set, the user's folder, or the pair's images. A folder, and a data set with given
    low-resolution images, is named with a digest of all its images.
    """
    hr, lr = split_pair(name)[0], lr_folder(name, root, scale)
    if is_folder(hr):
        folder = Path(hr).expanduser()
        hr, images = folder.resolve().name, images_in(folder)
    elif lr is None:
        return hr
    else:
        dataset = find_dataset(hr, root)
        images = own_images(dataset, locate(dataset, root))
    return f"{hr}-{digest_of([*images, *(images_in(lr) if lr else [])])[:8]}"


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of images by their names, sizes and first 64 KiB; reading all would take long for gigabytes."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode(errors="surrogateescape") + file.read(2**16))
    return digest.hexdigest()
