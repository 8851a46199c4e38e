"""Low-resolution partners of high-resolution images: matched by name, and checked by size before they are decoded."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nsr_cli.data.catalog import (
    broken_link_text,
    broken_links,
    find_dataset,
    images_in,
    is_folder,
    lr_partners,
    split_pair,
)
from nsr_cli.errors import UserError

# Suffixes of image names in releases, as of baby_HR_x2, baby_LRBI_x2, img_001_SRF_2_LR.
_KIND = r"(?:[_-](?:HR|GT|LR(?:BI|BD|DN)?|bicubic))"
_SCALE = r"(?:[_-]?x{scale}(?:[mdw]\d?)?)"
_SUFFIX = rf"(?:{_KIND}?{_SCALE}|{_SCALE}?{_KIND}|_SRF_{{scale}}(?:_HR|_LR)?)$"
SHOWN = 3  # file names in an error


def pair_text(data: str | Mapping[str, str]) -> str:
    """The name of a data set; of a pair {hr: name or folder, lr: folder}, the pair as a text.

    Raises:
        UserError: a mapping with other keys.
    """
    if isinstance(data, str):
        return data
    if data.keys() != {"hr", "lr"}:
        raise UserError(f"a pair of folders is {{hr: FOLDER, lr: FOLDER}}; found the keys {', '.join(map(str, data))}")
    return f"{{hr: {data['hr']}, lr: {data['lr']}}}"


def lr_folder(name: str, root: Path, scale: int) -> Path | None:
    """The folder of a data set's low-resolution images at a scale, from the pair or the catalogue; None without one."""
    if scale == 1:
        return None
    _, lr = split_pair(name)
    pattern = lr or ("" if is_folder(name) else find_dataset(name, root).low_resolution)
    found = Path(os.path.expanduser(pattern.replace("{scale}", str(scale))))
    return (found if lr else Path(root) / found) if pattern else None


def low_resolution_paths(name: str, paths: Sequence[Path], root: Path, scale: int) -> list[Path]:
    """The low-resolution partner of each image: from the data set's folder of them, or DIV2K's official one.

    Empty if low-resolution images are to be computed. Raises UserError as :func:`find_partners`.
    """
    if folder := lr_folder(name, root, scale):
        return find_partners(paths, folder, scale)
    partners = lr_partners(paths, scale)
    if partners:
        _check_sizes(paths, partners, scale)
        _check_colours(paths, partners)
    return partners


def find_partners(hr_paths: Sequence[Path], lr_folder: Path, scale: int) -> list[Path]:
    """The low-resolution partner of each image, by stem: the same, or with a usual suffix (x2, _x2, _LRBI_x2, ...).

    Args:
        hr_paths: the high-resolution images.
        lr_folder: of the partners; it may also hold those of other scales.
        scale: side of an image, cut to a multiple of ``scale``, over the side of its partner.

    Returns:
        Paths in the order of ``hr_paths``.

    Raises:
        UserError: the folder is missing, an image has no partner or several, a partner has no image, the wrong size,
            or grey for colours; the text names the files.
    """
    if not lr_folder.is_dir():
        raise UserError(f"no folder {lr_folder.absolute()} of low-resolution images at 1/{scale}")
    if links := broken_links(lr_folder):
        raise UserError(f"{links[0].absolute()} is {broken_link_text(links[0])}")
    found, partners, unpaired = _by_stem(images_in(lr_folder), scale), [], []
    for path in hr_paths:
        candidates = found.get(path.stem) or found.get(_bare_stem(path.stem, scale), [])
        if len(candidates) > 1:
            names = " and ".join(candidate.name for candidate in candidates)
            raise UserError(f"{path.name} has several low-resolution partners in {lr_folder.absolute()}: {names}")
        partners += candidates
        if not candidates:
            unpaired.append(path.name)
    if unpaired:
        where = f"in {lr_folder.absolute()}; expected for example {Path(unpaired[0]).stem}x{scale}.png"
        raise UserError(f"{_first_names(unpaired)}: no low-resolution partner at 1/{scale} {where}")
    _check_unpaired(hr_paths, found, lr_folder, scale)
    _check_sizes(hr_paths, partners, scale)
    _check_colours(hr_paths, partners)
    return partners


def _bare_stem(stem: str, scale: int) -> str:
    """A stem without the suffix of a high- or low-resolution image at this scale."""
    return re.sub(_SUFFIX.replace("{scale}", str(scale)), "", stem, flags=re.IGNORECASE) or stem


def _by_stem(paths: Sequence[Path], scale: int) -> dict[str, list[Path]]:
    """Low-resolution images by their stem, and by their bare stem."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for name in {path.stem, _bare_stem(path.stem, scale)}:
            found.setdefault(name, []).append(path)
    return found


def _check_unpaired(hr_paths: Sequence[Path], found: dict[str, list[Path]], lr_folder: Path, scale: int) -> None:
    """Raise UserError for low-resolution images at this scale without a partner in the folders of ``hr_paths``."""
    beside = [path for folder in {path.parent for path in hr_paths} for path in images_in(folder)]
    known = {name for path in beside for name in (path.stem, _bare_stem(path.stem, scale))}
    other_scale = re.compile(rf"x(?!{scale})\d(?:[mdw]\d?)?$", re.IGNORECASE)
    partners = {path for paths in found.values() for path in paths if not other_scale.search(path.stem)}
    if left := sorted(p.name for p in partners if not {p.stem, _bare_stem(p.stem, scale)} & known):
        where = ", ".join(sorted({str(path.parent.absolute()) for path in hr_paths}))
        raise UserError(f"{_first_names(left)} in {lr_folder.absolute()}: no high-resolution partner in {where}")


def _check_sizes(hr_paths: Sequence[Path], partners: Sequence[Path], scale: int) -> None:
    from nsr_cli.data.images import image_size  # not for every start of the program

    wrong = []
    for path, partner in zip(hr_paths, partners, strict=True):
        expected = tuple(side // scale for side in image_size(path))
        size = image_size(partner)
        if size != expected:
            sizes = f"{size[1]}x{size[0]}, expected {expected[1]}x{expected[0]}"
            wrong.append(f"{partner} is {sizes}: {path.name} at 1/{scale}")
    if wrong:
        more = f"; {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        raise UserError(wrong[0] + more)


def _check_colours(hr_paths: Sequence[Path], partners: Sequence[Path]) -> None:
    """Raise UserError where one of two partners is grey and the other is not; a grey image may be stored as RGB."""
    from nsr_cli.data.images import is_grey, read_image

    for path, partner in zip(hr_paths, partners, strict=True):
        if (grey := is_grey(partner)) != is_grey(path):
            image = read_image(path if grey else partner)
            if (image != image[..., :1]).any():
                found, expected = ("grey", "RGB") if grey else ("RGB", "grey")
                raise UserError(f"{partner} is {found}, expected {expected}, as {path.name} is")


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
