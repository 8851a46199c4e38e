"""Finding data sets and their images on this machine, by name or by folder. Imports nothing heavy."""

import difflib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nsr_cli.data.datasets import DATASETS, IN_RGB, Dataset
from nsr_cli.data.datasets_file import FILE, read_datasets
from nsr_cli.errors import UserError, find_each

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PAIR = re.compile(r"\{hr: (.+), lr: (.+)\}")
MAX_FOLDERS = 1000  # that are looked into for images in subfolders


def all_datasets(root: Path) -> Mapping[str, Dataset]:
    """All data sets by name: those of the catalogue, then those of the data root's datasets.yaml."""
    return {**DATASETS, **read_datasets(Path(root) / FILE)}


def find_dataset(name: str, root: Path) -> Dataset:
    """The data set of a name, from the catalogue or the data root's datasets.yaml.

    Raises:
        UserError: there is no such name; the text lists the names.
    """
    name, _ = split_pair(name)
    if name in DATASETS:
        return DATASETS[name]
    known = all_datasets(root)
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    if Path(name).is_dir():
        close = [f"./{name}", *close]
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise UserError(f"no data set '{name}'{hint}; there are: {', '.join(known)}")


def check_known(name: str, root: Path) -> None:
    """Raise UserError for an unknown name of a data set; a user's folder is not looked for."""
    if not is_folder(name):
        find_dataset(name, root)


def convention_names(name: str, reads: Sequence[str], root: Path) -> list[str]:
    """The names (luma, y, y8, rgb) of a benchmark's conventions of super-resolution; the table shows the first.

    They are listed in the order of ``reads``, the kinds of input images of the method: luma, rgb or both.
    """
    conventions = IN_RGB if is_folder(name) else find_dataset(name, root).conventions
    return list(dict.fromkeys(convention for kind in reads for convention in conventions[kind]))


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, without subfolders and hidden files, sorted by name."""
    return sorted(path for path in folder.iterdir() if is_image(path) and path.is_file()) if folder.is_dir() else []


def broken_links(folder: Path) -> list[Path]:
    """The links of a folder that are named as images but whose target does not exist, sorted by name."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which knows links without a system call for each
        links = sorted(Path(entry.path) for entry in entries if entry.is_symlink())
    return [link for link in links if is_image(link) and not link.exists()]


def is_image(path: Path) -> bool:
    """Whether a path is named as an image, and not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def locate(dataset: Dataset, root: Path) -> Path | None:
    """The folder of a data set: the first candidate with images of it, else the first empty one, else None."""
    if dataset.package:
        spec = importlib.util.find_spec(dataset.package)  # finds a top-level package without importing it
        return Path(spec.submodule_search_locations[0]) / "data" if spec else None
    candidates = dict.fromkeys(name for folder in dataset.folders for name in (folder, folder.lower()))
    folders = [Path(root) / name for name in candidates]
    for folder in folders:
        if own_images(dataset, folder):
            return folder
    return next((folder for folder in folders if folder.is_dir() and not images_in(folder)), None)


def own_images(dataset: Dataset, folder: Path | None) -> list[Path]:
    """The images of a folder that belong to the data set, sorted by name; none without a folder."""
    return images_of_dataset(dataset, images_in(folder)) if folder else []


def images_of_dataset(dataset: Dataset, paths: Iterable[Path]) -> list[Path]:
    """The images among ``paths`` that belong to the data set."""
    names = set(dataset.files)
    return [path for path in paths if not names or path.name in names]


def is_folder(name: str) -> bool:
    """Whether a data set is given as a user's folder: anything with "/", or a leading "." or "~"."""
    name, _ = split_pair(name)
    return "/" in name or name.startswith((".", "~"))


def split_pair(name: str) -> tuple[str, str]:
    """A data set's name, and its folder of low-resolution images if it is a pair, else an empty text."""
    found = PAIR.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def image_paths(name: str, root: Path) -> list[Path]:
    """The images of a named data set, or of a user's folder; of a pair, the high-resolution images.

    Args:
        name: of a data set; or a folder, which has "/" or a leading "." or "~".
        root: the data root (`NSR_DATA`), below which named data sets lie.

    Returns:
        Paths sorted by file name; for a data set made of parts, one part after the other.

    Raises:
        UserError: the name is unknown, the folder is missing or empty, a link is broken, or the number of images is
            not that of the data set.
    """
    name, _ = split_pair(name)
    if is_folder(name):
        return _folder_images(Path(os.path.expanduser(name)), root)
    dataset = find_dataset(name, root)
    if dataset.parts:
        parts = find_each(lambda part: image_paths(part, root), dataset.parts)
        return [path for paths in parts.values() for path in paths]
    folder = locate(dataset, root)
    if dataset.package:
        return _package_images(dataset, folder)
    if folder is None:
        wanted = (Path(root) / dataset.folders[0]).absolute()
        raise UserError(f"{dataset.title}: no folder {wanted}; {how_to_get(dataset)}")
    paths, where = own_images(dataset, folder), folder.absolute()
    _refuse_broken_links(images_of_dataset(dataset, broken_links(folder)))
    if not paths:
        raise UserError(f"{dataset.title}: no images in {where}; {_in_subfolders(folder) or how_to_get(dataset)}")
    if dataset.count and len(paths) != dataset.count:
        raise UserError(
            f"{dataset.title}: {len(paths)} images in {where}, expected {dataset.count}; "
            f"`nsr data check {dataset.name}` says which differ"
        )
    return paths


def _folder_images(folder: Path, root: Path) -> list[Path]:
    if not folder.is_dir():
        names = ", ".join(all_datasets(root))
        raise UserError(f"no folder {folder.absolute()}; give a folder of images, or one of: {names}")
    _refuse_broken_links(broken_links(folder))
    paths = images_in(folder)
    if not paths:
        expected = _in_subfolders(folder) or f"image files end in {', '.join(IMAGE_SUFFIXES)}"
        raise UserError(f"no images in {folder.absolute()}; {expected}")
    return paths


def _refuse_broken_links(links: list[Path]) -> None:
    if links:
        more = f" (and {len(links) - 1} more such links)" if len(links) > 1 else ""
        raise UserError(f"{links[0].absolute()} is {broken_link_text(links[0])}{more}; mend or remove it")


def broken_link_text(link: Path) -> str:
    """The target of a broken link, in words."""
    return f"a link to {os.readlink(link)}, which does not exist"


def _in_subfolders(folder: Path) -> str:
    """The subfolders of a folder that hold images, in words; empty if none does."""
    found = []
    for looked, (place, names, _) in enumerate(os.walk(folder)):
        names[:] = sorted(name for name in names if not name.startswith("."))
        here = Path(place).relative_to(folder)
        if count := len(images_in(Path(place))):
            found.append(f"{here}/ ({count})")
        if len(here.parts) == 3 or looked > MAX_FOLDERS:
            names.clear()
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"its subfolders hold some, name one of them: {', '.join(found[:8])}{more}" if found else ""


def _package_images(dataset: Dataset, folder: Path | None) -> list[Path]:
    if folder is None:
        raise UserError(f"{dataset.title}: scikit-image is not installed; pip install scikit-image")
    paths = [folder / name for name in sorted(dataset.files)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{dataset.title}: this scikit-image lacks {', '.join(missing)} in {folder}")
    return paths


def how_to_get(dataset: Dataset) -> str:
    """How to get a data set, in a few words."""
    if dataset.sources or dataset.parts:
        return f"`nsr data get {dataset.name}` fetches it"
    return "pip install scikit-image" if dataset.package else dataset.ask


class Row(NamedTuple):
    """One line of `nsr data list`."""

    name: str
    title: str
    images: int | str
    where: str
    licence: str


def listing(root: Path) -> list[Row]:
    """A row for every data set: its folder on this machine, or how to get it; no image is read."""
    return [
        Row(data.name, data.title, data.count or "any", _location(data, root), data.licence)
        for data in all_datasets(root).values()
    ]


def _location(dataset: Dataset, root: Path) -> str:
    if dataset.parts:
        missing = [part for part in dataset.parts if _location(find_dataset(part, root), root).startswith("not here")]
        return f"not here: {how_to_get(dataset)}" if missing else " + ".join(dataset.parts)
    folder = locate(dataset, root)
    found = len(own_images(dataset, folder))
    if found and found == (dataset.count or found):
        return str(folder.absolute())
    partly = f" ({found} of {dataset.count} in {folder.absolute()})" if found else ""
    return f"not here{partly}: {how_to_get(dataset)}"


def lr_partner(path: Path, scale: int) -> Path | None:
    """DIV2K's official bicubic low-resolution image of a high-resolution one; None if their folder is not here.

    The partner of `DIV2K_train_HR/0001.png` at scale 2 is `DIV2K_train_LR_bicubic/X2/0001x2.png`.

    Raises:
        UserError: the folder is here, but the partner is missing.
    """
    match = re.fullmatch(r"(DIV2K_(?:train|valid))_HR", path.parent.name, re.IGNORECASE)
    if not match:
        return None
    name = f"{match[1]}_LR_bicubic"
    candidates = (path.parent.parent / folder / f"X{scale}" for folder in (name, name.lower()))
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        return None
    partner = folder / f"{path.stem}x{scale}.png"
    if not partner.is_file():
        raise UserError(f"{path.name} lacks its low-resolution partner {partner}; complete that folder or remove it")
    return partner


def lr_partners(paths: Iterable[Path], scale: int) -> list[Path]:
    """DIV2K's official low-resolution images that are on this machine, in the order of their images."""
    return [partner for path in paths if (partner := lr_partner(path, scale))]
