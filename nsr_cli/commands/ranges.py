"""What a knob is: its default, and which values it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nsr_cli.engine.schedule import fraction_of
from nsr_cli.errors import UserError


@dataclass(frozen=True)
class Knob:
    """A key of a config.

    Attributes:
        default: a value, or an interpolation; UNSET for one that only some models have.
        help: what it is, in a line.
        kind: the type of its values; of each, for a list.
        expected: its values in words.
        accepts: the range, as a test.
        schema: the range, as JSON schema.
        nullable: whether null is allowed.
        several: whether a list of such values is expected.
    """

    default: Any
    help: str
    kind: type
    expected: str
    accepts: Callable[[Any], bool]
    schema: dict
    nullable: bool = False
    several: bool = False

    def accepts_value(self, value: Any) -> bool:
        """Whether a value has the type and lies in the range."""
        if value is None:
            return self.nullable
        if not self.several:
            return self._fits(value)
        return isinstance(value, (list, tuple)) and bool(value) and all(map(self._fits, value))

    def _fits(self, value: Any) -> bool:
        kinds = (int, float) if self.kind is float else self.kind
        return isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool)) and self.accepts(value)

    def or_null(self) -> "Knob":
        """The same knob, with null allowed."""
        return replace(self, nullable=True, expected=f"{self.expected}, or null")

    def or_pair(self) -> "Knob":
        """The same knob, with {hr: FOLDER, lr: FOLDER} allowed."""
        pair = {"type": "object", "required": ["hr", "lr"], "additionalProperties": {"type": "string", "minLength": 1}}
        return replace(self, kind=(str, dict), schema={"anyOf": [self.schema, pair]})

    def list_of(self, expected: str) -> "Knob":
        """A knob for a list of such values; ``expected`` describes it."""
        return replace(self, several=True, expected=expected)


def integer(default: Any, help: str, least: int = 1, most: int | None = None) -> Knob:
    """A knob for whole numbers from ``least`` to ``most``."""
    words = {1: "a whole number above 0", 0: "a whole number, 0 or above"}.get(
        least, f"a whole number, {least} or above"
    )
    words = words if most is None else f"a whole number from {least} to {most}"
    schema = {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})
    return Knob(default, help, int, words, lambda v: v >= least and (most is None or v <= most), schema)


def number(default: Any, help: str, most: float | None = None, zero: bool = False) -> Knob:
    """A knob for finite numbers above 0, or from 0 on where ``zero``, up to ``most``."""
    words = "a number, 0 or above" if zero else "a number above 0"
    words += "" if most is None else f", up to {most:g}"
    top = float("inf") if most is None else most
    schema = {"type": "number", "minimum" if zero else "exclusiveMinimum": 0} | (
        {} if most is None else {"maximum": most}
    )
    return Knob(
        default, help, float, words, lambda v: (v > 0 or (zero and v == 0)) and v <= top and v < float("inf"), schema
    )


def choice(default: Any, help: str, *options: Any) -> Knob:
    """A knob for one of two or more options."""
    *most, last = map(str, options)
    return Knob(
        default, help, type(options[0]), f"{', '.join(most)} or {last}", lambda v: v in options, {"enum": [*options]}
    )


def flag(default: bool, help: str) -> Knob:
    """A knob for true or false."""
    return Knob(default, help, bool, "true or false", lambda v: True, {"type": "boolean"})


def text(default: Any, help: str, expected: str) -> Knob:
    """A knob for a text that is not empty."""
    return Knob(default, help, str, expected, bool, {"type": "string", "minLength": 1})


def is_fraction(value: Any) -> bool:
    """Whether a value is a fraction of the training, in (0, 1]."""
    try:
        return not isinstance(value, bool) and bool(fraction_of(value))
    except UserError:
        return False


def is_text_or_texts(value: Any) -> bool:
    """Whether a value is a text, or a list of texts, none of them empty."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)
