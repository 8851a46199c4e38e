"""The user's data sets: the entries of datasets.yaml in the data root. For example:

photographs:                        # the name
  title: My photographs             # optional, as are all keys but folders and role
  folders: photographs              # below the data root; of a list, the first folder with images is taken
  role: test                        # or train
  count: 24
  conventions: {rgb: [y], luma: [luma]}
  low_resolution: photographs_lr/X{scale}
"""

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nsr_cli.data.datasets import DATASETS, Dataset
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.regular import open_regular

FILE = "datasets.yaml"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CONVENTIONS = {"rgb": ("y", "y8", "rgb"), "luma": ("luma", "y", "y8", "rgb")}  # by what a method reads


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_line, value))


def _are_conventions(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == CONVENTIONS.keys()
        and all(_are_lines(names) and set(names) <= set(CONVENTIONS[kind]) for kind, names in value.items())
    )


LINE, PATHS = (_is_line, "one line of text"), (_are_lines, "a text or a list of texts")
KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {  # a test of the value, and the expected value in words
    "title": LINE,
    "folders": PATHS,
    "role": (lambda value: value in ("train", "test"), "train or test"),
    "count": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
    "colour": (lambda value: type(value) is bool, "true or false"),
    "licence": LINE,
    "source": LINE,
    "ask": LINE,
    "files": PATHS,
    "conventions": (
        _are_conventions,
        f"rgb: names among {', '.join(CONVENTIONS['rgb'])}, and luma: names among {', '.join(CONVENTIONS['luma'])}",
    ),
    "low_resolution": LINE,
}
REQUIRED = ("folders", "role")


def read_datasets(path: Path) -> Mapping[str, Dataset]:
    """The data sets of a datasets.yaml by name; empty if there is no such file.

    Raises:
        UserError: the file is not YAML, or an entry is invalid; the text names the file, entry and key.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise UserError(f"cannot read {path}: it links to {os.readlink(path)}, which is missing") from error
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(8)
def _read(path: Path, changed: int, size: int) -> Mapping[str, Dataset]:
    import yaml  # not for every start of the program

    class Loader(yaml.SafeLoader):
        """Refuses a repeated key, whose last value YAML would take."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(
                    problem=f"{twice} is a repeated key", problem_mark=node.start_mark
                )
            return super().construct_mapping(node, deep)

    try:
        with open_regular(path) as file:
            content = yaml.load(file, Loader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{path} is no YAML file: {problem}{where}") from None
    if not isinstance(content, dict | None):
        raise UserError(f"{path}: expected data sets by name; found {' '.join(str(content).split())[:60]}")
    return {name: _dataset(path, name, entry) for name, entry in (content or {}).items()}


def _dataset(path: Path, name: Any, entry: Any) -> Dataset:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{path}: '{name}' cannot be a name; expected lower-case letters, digits, _ and -")
    if name in DATASETS:
        raise UserError(f"{path}: {name}: a data set of that name is in the catalogue; choose another name")
    if not isinstance(entry, dict):
        raise UserError(f"{path}: {name}: {entry!r}; expected keys and values, {' and '.join(REQUIRED)} at least")
    for key in REQUIRED:
        if key not in entry:
            raise UserError(f"{path}: {name} lacks {key}: expected {KEYS[key][1]}")
    values = {}
    for key, value in entry.items():
        if key not in KEYS:
            raise UserError(
                f"{path}: {name}.{key}: no such key{did_you_mean(str(key), KEYS)}; there are: {', '.join(KEYS)}"
            )
        values[key] = _as_list(key, value)
        fits, expected = KEYS[key]
        if not fits(values[key]):
            raise UserError(f"{path}: {name}.{key}: {value!r}; expected {expected}")
    files = tuple(values.pop("files", ()))
    if files and values.setdefault("count", len(files)) != len(files):
        raise UserError(f"{path}: {name}.count: {values['count']}; expected {len(files)}, as many as there are files")
    if "conventions" in values:
        values["conventions"] = {kind: tuple(names) for kind, names in values["conventions"].items()}
    values["folders"] = tuple(map(os.path.expanduser, values["folders"]))
    ask = f"its entry in {path} says where it lies"
    usual = {"title": name, "count": None, "colour": True, "licence": "", "source": FILE, "ask": ask}
    return Dataset(name, **usual | values, files=files)


def _as_list(key: str, value: Any) -> Any:
    """A value whose single texts are lists of one, if the key expects lists."""
    if KEYS[key] is PATHS and isinstance(value, str):
        return [value]
    if key == "conventions" and isinstance(value, dict):
        return {kind: [names] if isinstance(names, str) else names for kind, names in value.items()}
    return value
