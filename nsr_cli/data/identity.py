"""What stands for images in signatures and file names."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from nsr_cli.data.catalog import images_in, is_folder


def data_name(name: str) -> str:
    """A data set's name; for a folder of the user's own, the folder's name and a digest of its images."""
    if not is_folder(name):
        return name
    folder = Path(name).expanduser()
    return f"{folder.resolve().name}-{digest_of(images_in(folder))[:8]}"


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of images: their names, sizes, and the first 64 KiB of each, for there may be many gigabytes."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode(errors="surrogateescape") + file.read(2**16))
    return digest.hexdigest()
