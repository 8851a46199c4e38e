"""The pictures that files, folders and patterns name, and the output file of each."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsr_cli.data.catalog import IMAGE_SUFFIXES, is_image
from nsr_cli.data.origins import outputs_in
from nsr_cli.errors import UserError, find_each


@dataclass(frozen=True)
class FoundPicture:
    """A picture, and its path relative to the folder or pattern that found it."""

    path: Path
    relative: Path


def pictures_of(words: Sequence[str], out: Path) -> list[FoundPicture]:
    """The pictures that files, folders (searched recursively) and patterns name, each once.

    A word that names no existing path is a pattern; ``**`` in it matches subfolders. A search of a folder above
    ``out``, the folder of outputs, skips that, and a search in ``out`` skips what was restored into it.

    Raises:
        UserError: names all words without a picture.
    """
    found = find_each(lambda word: _pictures_named(word, out), dict.fromkeys(words))
    return list({os.path.realpath(one.path): one for pictures in found.values() for one in pictures}.values())


def _pictures_named(word: str, out: Path) -> list[FoundPicture]:
    """The pictures that a word names, relative to its folder, or to the folder before a pattern's first wildcard."""
    if os.path.isdir(word):
        matches, base = [Path(word)], Path(word)
    elif os.path.lexists(word):
        return [FoundPicture(Path(word), Path(Path(word).name))]
    elif glob.has_magic(word):
        base = Path(re.split(r"[^/\\]*[*?[]", word, maxsplit=1)[0] or ".")
        matches = sorted(map(Path, glob.glob(word, recursive=True)))
    else:
        raise UserError(f"{word}: no such file or folder")
    found = []
    for match in matches:
        if not _is_within(match, out) or _is_within(base, out):
            found += _pictures_below(match, out) if match.is_dir() else [match] if is_image(match) else []
    made = {folder: _made_in(folder) for folder in {path.parent for path in found} if _is_within(folder, out)}
    found = [path for path in found if path.name not in made.get(path.parent, ())]
    if not found:
        raise UserError(f"{word}: no pictures there; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return [FoundPicture(path, Path(os.path.relpath(path, base))) for path in found]


def _pictures_below(folder: Path, out: Path) -> list[Path]:
    """The pictures in a folder and its subfolders, without hidden files, hidden folders and the folder of outputs."""

    def raise_unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    found, outputs = [], os.path.realpath(out)
    for place, folders, names in os.walk(folder, onerror=raise_unreadable):
        here = Path(place)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and os.path.realpath(here / n) != outputs)
        found += [here / name for name in sorted(names) if is_image(Path(name))]
    return found


def _made_in(folder: Path) -> set[str]:
    """The names of restored pictures in a folder, and of their comparisons."""
    return {name for output in map(Path, outputs_in(folder)) for name in (output.name, comparison_of(output).name)}


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is the folder itself, or lies in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def outputs_of(found: Iterable[FoundPicture], out: Path, suffix: str, extension: str | None) -> dict[Path, Path]:
    """The output file of each picture, by its path: its name with a suffix, its folders mirrored below ``out``.

    If two outputs collide, all folders are mirrored from the pictures' common folder. Outputs that still collide keep
    the picture's extension in their name. A picture that is an output of another one is not restored.

    Args:
        found: the pictures.
        out: the folder of outputs.
        suffix: added to names, as in ``-x2``.
        extension: of all outputs, as in ``.png``; None keeps that of each picture, or ``.png`` if it has none of ours.

    Raises:
        UserError: two outputs collide all the same.
    """
    found = list(found)
    relatives = {one.path: one.relative for one in found}

    def output(path: Path, whole: bool = False) -> Path:
        relative = relatives[path]
        own_extension = relative.suffix if is_image(relative) else ".png"
        stem = relative.name if whole or not is_image(relative) else relative.stem
        return out / relative.with_name(f"{stem}{suffix}{extension or own_extension}")

    outputs = {path: output(path) for path in relatives}
    if _colliding(outputs):
        base = os.path.commonpath([os.path.abspath(path.parent) for path in relatives])
        relatives |= {path: Path(os.path.relpath(path, base)) for path in relatives}
        outputs = {path: output(path) for path in relatives}
    if colliding := _colliding(outputs):
        outputs |= {path: output(path, whole=True) for path in colliding}
    if colliding := _colliding(outputs):
        both = " and ".join(map(str, colliding[:2]))
        raise UserError(f"{both} would both be {outputs[colliding[0]]}; restore them apart")
    written = {os.path.realpath(path) for output in outputs.values() for path in (output, comparison_of(output))}
    return {path: target for path, target in outputs.items() if os.path.realpath(path) not in written}


def _colliding(outputs: dict[Path, Path]) -> list[Path]:
    """The pictures that share their output with another one."""
    counts = Counter(outputs.values())
    return [path for path, output in outputs.items() if counts[output] > 1]


def comparison_of(output: Path) -> Path:
    """The file that shows a picture beside the restored one."""
    return output.with_name(f"{output.stem}-compare{output.suffix}")
