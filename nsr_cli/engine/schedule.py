"""The length of a training, and the learning rate of each of its steps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from nsr_cli.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """Adam's learning rate falls by a constant factor at a few steps (Sec. 4.1: x0.2 at epochs 20 and 25 of 30).

    Attributes:
        steps: of the whole training, across resumes.
        learning_rate: of the first step.
        drops: steps, counted from 0, from which on the rate is lower.
        factor: the rate after a drop over the rate before it.
    """

    steps: int
    learning_rate: float
    drops: tuple[int, ...] = ()
    factor: float = 1.0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * self.factor ** sum(step >= drop for drop in self.drops)


def drop_steps(fractions: Iterable[Fraction | float | str], steps: int) -> tuple[int, ...]:
    """The steps at which the learning rate drops, rounded half up.

    Args:
        fractions: of the training, in (0, 1]: Fraction(2, 3), "20/30" or 0.6667. A float is the decimal that it prints.
        steps: of the whole training.

    Raises:
        UserError: a value is no such fraction.
    """
    return tuple(math.floor(fraction_of(value) * steps + Fraction(1, 2)) for value in fractions)


def fraction_of(value: Fraction | float | str) -> Fraction:
    """A part of a training, in (0, 1]. Raises UserError for anything else."""
    try:
        found = Fraction(str(value))
    except (ValueError, ZeroDivisionError):  # "x", "1/0", nan
        found = Fraction(0)
    if not 0 < found <= 1:
        raise UserError(f"lr_drops: {value} is no fraction of the training; expected one in (0, 1], as 20/30 or 0.5")
    return found
