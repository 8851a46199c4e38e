"""Dotted names of classes and functions in configs and records."""

import ast
import contextlib
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nsr_cli.errors import UserError


def imported(name: str, said: str = "") -> Any:
    """The class or function of a dotted name, such as ``nsr_cli.models.wdsr.WDSR``.

    Args:
        name: the dotted name.
        said: how the user gave it, for errors; empty for ``_target_=...``.

    Raises:
        UserError: nothing of that name can be imported.
    """
    module, _, attribute = str(name).rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if module != error.name and not module.startswith(f"{error.name}."):
            raise  # the module exists, but one of its own imports does not
        reason = str(error)
    except (AttributeError, ValueError, TypeError) as error:
        reason = str(error)
    raise UserError(f"{said or f'_target_={name}'}: expected a class or function that can be imported; {reason}")


def imported_if_own(name: str) -> Any:
    """The class or function of a dotted name in a file of someone else's; None if it is not of nsr or of the user.

    A module that is loaded is read as it is. Any other is imported only if it is of nsr, or lies outside of Python's
    folders of installed packages, and its source defines or imports the name at its top level.
    """
    module, _, attribute = name.rpartition(".")
    if module not in sys.modules and not (module and is_own(module) and attribute in top_level_names(module)):
        return None
    return vars(importlib.import_module(module)).get(attribute)


def is_of_nsr(name: str) -> bool:
    """Whether a dotted name is of nsr."""
    return name.partition(".")[0] == __name__.partition(".")[0]


def is_own(module: str) -> bool:
    """Whether a module is of nsr, or of a package outside of Python's own folders; nothing is imported."""
    if is_of_nsr(module):
        return True
    top = module.partition(".")[0]
    found = find_spec(top) if top and top not in sys.stdlib_module_names else None
    places = [found.origin, *(found.submodule_search_locations or ())] if found else []
    installed = [Path(folder).resolve() for folder in sysconfig.get_paths().values()]
    places = [Path(place).resolve() for place in places if place]
    inside = any(place.is_relative_to(folder) for place in places for folder in installed)
    return bool(places) and not inside


def source_of(module: str) -> bytes:
    """The source of a module; empty where it has none. Nothing is imported."""
    spec: ModuleSpec | None = None
    with contextlib.suppress(OSError, ValueError):  # ValueError: a script that is running
        for depth, part in enumerate(parts := module.split("."), 1):
            if depth == 1:
                spec = find_spec(part)
            else:
                spec = PathFinder.find_spec(".".join(parts[:depth]), spec.submodule_search_locations or [])
            if spec is None:
                return b""
        return Path(spec.origin).read_bytes() if isinstance(spec.loader, SourceFileLoader) else b""
    return b""


def source_digests(names: Iterable[str]) -> dict[str, str]:
    """The start of the SHA-256 of each module that dotted names name, and that is not of nsr; empty without source."""
    modules = {name.rpartition(".")[0] for name in names} - {""}
    own = sorted(module for module in modules if not is_of_nsr(module))
    sources = {module: source_of(module) for module in own}
    return {module: hashlib.sha256(source).hexdigest()[:16] if source else "" for module, source in sources.items()}


def top_level_names(module: str) -> set[str]:
    """The names that the source of a module defines or imports at its top level; nothing is imported."""
    try:
        body = ast.parse(source_of(module)).body
    except (SyntaxError, ValueError):
        return set()
    defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    taken = {alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return defined | taken
