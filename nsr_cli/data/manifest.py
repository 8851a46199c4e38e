"""The shipped manifests of data sets, with size and checksum of each image, and comparing images with them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsr_cli.data import catalog
from nsr_cli.data.datasets import Dataset
from nsr_cli.data.images import image_size, read_image
from nsr_cli.errors import UserError

MANIFESTS = Path(__file__).parent / "manifests"


class Entry(NamedTuple):
    """The entry of one image in a manifest."""

    height: int
    width: int
    channels: int
    sha256: str


@dataclass(frozen=True)
class Check:
    """The result of `check_dataset`; the data set is complete and right if `problems` is empty.

    folder:   of the data set, absolute; None for a data set made of parts
    found:    number of images here
    compared: "checksums" if a manifest is shipped, else "names and count"
    missing:  names of missing images
    wrong:    one line for each image that differs
    """

    name: str
    folder: Path | None
    found: int
    compared: str
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each missing or wrong image."""
        return (*(f"{name}: missing" for name in self.missing), *self.wrong)


def check_dataset(name: str, root: Path) -> Check:
    """Compare a data set with its manifest: the number of images, their names, sizes and checksums.

    If no manifest is shipped, names and number are compared, and each file's header is read.

    Raises:
        UserError: the name is unknown, or no image of the data set is here.
    """
    dataset = catalog.find_dataset(name, root)
    if dataset.parts:
        checks = [check_dataset(part, root) for part in dataset.parts]
        return Check(
            name,
            None,
            sum(part.found for part in checks),
            " / ".join(dict.fromkeys(part.compared for part in checks)),
            tuple(missing for part in checks for missing in part.missing),
            tuple(wrong for part in checks for wrong in part.wrong),
        )
    folder = catalog.locate(dataset, root)
    paths = catalog.own_images(dataset, folder)
    if not paths:
        catalog.image_paths(name, root)  # raises UserError, which says what is missing
    links = catalog.images_of_dataset(dataset, catalog.broken_links(folder))
    manifest = read_manifest(name)
    missing, wrong = _compare([*paths, *links], manifest) if manifest else compare_names(dataset, [*paths, *links])
    return Check(name, folder.absolute(), len(paths), "checksums" if manifest else "names and count", missing, wrong)


def _compare(paths: list[Path], manifest: dict[str, Entry]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    here = {path.name: path for path in paths}
    missing = tuple(name for name in manifest if name not in here)
    wrong = [f"{name}: not in this data set" for name in here if name not in manifest]
    for name in manifest.keys() & here.keys():
        expected = manifest[name]
        try:
            entry = describe_image(here[name], expected)
        except UserError as error:
            wrong.append(f"{name}: {error}")
            continue
        if entry[:3] != expected[:3]:
            wrong.append(f"{name}: {_size(entry)}, expected {_size(expected)}")
        elif entry.sha256 != expected.sha256:
            wrong.append(f"{name}: other {'bytes' if _is_jpeg(name) else 'pixels'} than the published image")
    return missing, tuple(sorted(wrong))


def compare_names(dataset: Dataset, paths: list[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(missing, wrong) of a data set without a manifest, by names, number and headers, in words.

    Of several namings the one with the most images here is compared; names that are in none are not.
    """
    names = {path.name for path in paths}
    naming = max(dataset.namings, key=lambda naming: len(names.intersection(naming)), default=())
    expected = dataset.files or (naming if names.intersection(naming) else ())
    missing = tuple(name for name in expected if name not in names)
    wrong = [f"{name}: not in this data set" for name in sorted(names.difference(expected)) if expected]
    count = dataset.count or len(paths)
    if not expected and len(paths) < count:
        missing = (f"{count - len(paths)} of {count} images",)
    if len(paths) > count:
        wrong.append(f"{len(paths)} images, expected {count}")
    for path in paths:
        try:
            image_size(path)
        except UserError as error:
            wrong.append(f"{path.name}: {error}")
    return missing, tuple(wrong)


def read_manifest(name: str) -> dict[str, Entry] | None:
    """The shipped manifest of a data set, file name to `Entry`; None if there is none."""
    path = MANIFESTS / f"{name}.json"
    if not path.is_file():
        return None
    return {image: Entry(*entry) for image, entry in json.loads(path.read_text())["images"].items()}


def describe_image(path: Path, expected: Entry | None = None) -> Entry:
    """The size and checksum of an image file.

    The checksum is that of the decoded pixels (uint8, row by row, RGB interleaved), so that a PNG written anew still
    matches. That of a JPEG is of the file, because decoders differ in the last bit. An image whose header has another
    size than `expected` is not decoded, and its checksum is empty.
    """
    height, width = image_size(path)
    if expected and (height, width) != expected[:2]:
        return Entry(height, width, expected.channels, "")
    image = read_image(path)
    return Entry(height, width, 1 if image.ndim == 2 else image.shape[2], checksum(path, image))


def checksum(path: Path, image: np.ndarray) -> str:
    """SHA-256 of an image: of the file of a JPEG, else of the decoded pixels."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if _is_jpeg(path.name) else digest(image)


def digest(image: np.ndarray) -> str:
    """SHA-256 of decoded pixels, row by row."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def write_manifest(name: str, root: Path, folder: Path = MANIFESTS) -> Path:
    """Write the manifest of a data set from its images on this machine; returns the file."""
    entries = {path.name: describe_image(path) for path in catalog.image_paths(name, root)}
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    meaning = "height, width, channels, sha256 of the decoded pixels (uint8, by rows; of a JPEG: of the file)"
    text = f'{{\n  "name": "{name}",\n  "entries": "{meaning}",\n  "images": {{\n{lines}\n  }}\n}}\n'
    path = folder / f"{name}.json"
    path.write_text(text)
    return path


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))


def _size(entry: Entry) -> str:
    return f"{entry.height}x{entry.width}x{entry.channels}"
