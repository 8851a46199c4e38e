"""From files, folders and patterns to the pictures that are to be restored, and the files that they become."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsr_cli.data.catalog import IMAGE_SUFFIXES, is_image
from nsr_cli.errors import UserError, find_each


@dataclass(frozen=True)
class FoundPicture:
    """A picture, and its path below the folder that it was found by."""

    path: Path
    relative: Path


def pictures_of(words: Sequence[str], out: Path) -> list[FoundPicture]:
    """The pictures that files, folders (with all that are in them) and patterns name, each once.

    Args:
        words: of a command line. A pattern is one that names nothing that is there; ``**`` in it goes into subfolders.
        out: the folder of outputs; below another folder it is left out.

    Raises:
        UserError: for all that name no picture.
    """
    found = find_each(lambda word: _pictures_named(word, out), dict.fromkeys(words))
    return list({os.path.realpath(one.path): one for pictures in found.values() for one in pictures}.values())


def _pictures_named(word: str, out: Path) -> list[FoundPicture]:
    """The pictures that a word names, with the folder of its own, or of a pattern's fixed part, taken away."""
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
    if not found:
        raise UserError(f"{word}: no pictures there; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return [FoundPicture(path, Path(os.path.relpath(path, base))) for path in found]


def _pictures_below(folder: Path, out: Path) -> list[Path]:
    """The pictures in a folder and below; hidden ones, hidden folders and the outputs are left out."""

    def raise_unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    found, outputs = [], os.path.realpath(out)
    for place, folders, names in os.walk(folder, onerror=raise_unreadable):
        here = Path(place)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and os.path.realpath(here / n) != outputs)
        found += [here / name for name in sorted(names) if is_image(Path(name))]
    return found


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder, or lies in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def outputs_of(found: Iterable[FoundPicture], out: Path, suffix: str, extension: str | None) -> dict[Path, Path]:
    """The output of each picture, by its path: its name with a suffix, folders mirrored below ``out``.

    Where two would be the same file, all lie as they do below their common folder; those that still would keep their
    whole names. A picture that is itself the output of another is none.

    Args:
        suffix: as in ``-x2``.
        form: the formats' common suffix, as in ``.png``; None keeps each its own, or else takes ``.png``.

    Raises:
        UserError: two outputs would be the same file still.
    """
    found = list(found)
    relatives = {one.path: one.relative for one in found}

    def output(path: Path, whole: bool = False) -> Path:
        relative = relatives[path]
        own = relative.suffix if is_image(relative) else ".png"
        stem = relative.name if whole or not is_image(relative) else relative.stem
        return out / relative.with_name(f"{stem}{suffix}{extension or own}")

    outputs = {path: output(path) for path in relatives}
    if _colliding(outputs):
        base = os.path.commonpath([os.path.abspath(path.parent) for path in relatives])
        relatives |= {path: Path(os.path.relpath(path, base)) for path in relatives}
        outputs = {path: output(path) for path in relatives}
    if same := _colliding(outputs):
        outputs |= {path: output(path, whole=True) for path in same}
    if same := _colliding(outputs):
        raise UserError(f"{' and '.join(map(str, same[:2]))} would both be {outputs[same[0]]}; restore them apart")
    written = {os.path.realpath(path) for output in outputs.values() for path in (output, comparison_of(output))}
    return {path: target for path, target in outputs.items() if os.path.realpath(path) not in written}


def _colliding(outputs: dict[Path, Path]) -> list[Path]:
    """The pictures whose output is another's, too."""
    counts = Counter(outputs.values())
    return [path for path, output in outputs.items() if counts[output] > 1]


def comparison_of(output: Path) -> Path:
    """The file of a picture beside its restored one."""
    return output.with_name(f"{output.stem}-compare{output.suffix}")
