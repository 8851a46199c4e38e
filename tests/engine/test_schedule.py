"""The learning rate of every step, as the paper and a config say it."""

from fractions import Fraction

import pytest

from nsr_cli.engine.schedule import Schedule, drop_steps
from nsr_cli.errors import UserError


@pytest.mark.parametrize(
    ("fractions", "steps", "drops"),
    [
        (["20/30", "25/30"], 150_000, (100_000, 125_000)),  # Sec. 4.1: 800 images x 100 patches x 30 epochs / 16
        ([Fraction(20, 30), Fraction(25, 30)], 1_500_000, (1_000_000, 1_250_000)),
        ([0.6667, 0.8333], 150_000, (100_005, 124_995)),  # what a float says, to the digit
        ([0.6667, 0.8333], 6000, (4000, 5000)),
        ([0.5, "1/2", 1], 25, (13, 13, 25)),  # half up, although 12 is even
        ([0.145], 100, (15,)),  # half up: as a binary number it is a little below, and round gives 14
        ([], 100, ()),
    ],
)
def test_drops_are_exact(fractions, steps, drops):
    assert drop_steps(fractions, steps) == drops


@pytest.mark.parametrize("value", ["x", "", "1/0", "0/3", -0.5, 0, 1.01, "31/30", float("nan"), float("inf"), None])
def test_what_is_no_fraction_is_named(value):
    with pytest.raises(UserError, match=rf"^lr_drops: {value} is no fraction of the training; expected one in \(0"):
        drop_steps([0.5, value], 100)


def test_the_rate_of_every_step_of_the_paper():
    schedule = Schedule(150_000, 1e-3, drop_steps(["20/30", "25/30"], 150_000), 0.2)
    ends = (0, 99_999, 100_000, 124_999, 125_000, 149_999)
    assert [schedule.rate(step) for step in ends] == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5])
    assert schedule == Schedule(150_000, 1e-3, (100_000, 125_000), 0.2)  # what two runs share can be compared
