"""Checks of what a YAML file says of a dataclass: its keys, and the types of their values."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin

from nsr_cli.errors import UserError, did_you_mean

IN_WORDS = {str: "a text", bool: "true or false", float: "a number", tuple: "a list", dict: "keys and values"}


def check_keys(name: str, what: str, kind: type, content: Mapping) -> None:
    """Raise UserError for a key that does not exist, one that lacks, or a value of another type.

    Args:
        name: of the file.
        what: the content, in words.
        kind: the dataclass.
        content: its attributes by name.
    """
    known = {one.name: one for one in fields(kind)}
    there = ", ".join(known)
    for key in content:
        if key not in known:
            raise UserError(f"{name}: no key '{key}'{did_you_mean(str(key), list(known))}; there are: {there}")
    for key, one in known.items():
        if key not in content and one.default is MISSING and one.default_factory is MISSING:
            has = ", ".join(map(str, content))
            raise UserError(f"{name}: {what} has no {key}; it has: {has or 'nothing'}")
    for key, value in content.items():
        if not fits(value, expected := known[key].type):
            expected = get_args(expected)[0] if get_origin(expected) is UnionType else expected
            raise UserError(f"{name}: {key}={str(value)[:60]}: expected {IN_WORDS[get_origin(expected) or expected]}")


def fits(value: object, kind: Any) -> bool:
    """Whether a value has the type of an annotation; the content of dataclasses is not looked at."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(fits(value, one) for one in inner)
    if origin is tuple:
        kinds = inner[:1] * len(value) if isinstance(value, list | tuple) and inner[-1] is Ellipsis else inner
        return isinstance(value, list | tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, Mapping if is_dataclass(kind) else kind)
