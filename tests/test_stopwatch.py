"""The stopwatch, by a clock that the test sets."""

import pytest

from nsr_cli.stopwatch import ratio, time_in_turns


class FakeClock:
    """A clock that stands still until a candidate moves it, and remembers who did."""

    def __init__(self):
        self.now, self.ran, self.pending = 0.0, [], 0.0

    def __call__(self) -> float:
        return self.now

    def candidate(self, name: str, *durations: float):
        left = list(durations)

        def run():
            self.ran.append(name)
            self.now += left.pop(0)

        return run


def test_every_round_begins_with_another_candidate_and_warm_ups_do_not_count():
    clock = FakeClock()
    candidates = {name: clock.candidate(name, 100, 1, 2, 3) for name in "abc"}
    seconds = time_in_turns(candidates, rounds=3, clock=clock)
    assert "".join(clock.ran) == "abc" + "bca" + "cab" + "abc"
    assert seconds == {name: [1, 2, 3] for name in "abc"}


def test_warm_ups_may_be_none_or_several():
    for warm_ups in (0, 2):
        clock = FakeClock()
        seconds = time_in_turns({"a": clock.candidate("a", 1, 2, 3, 4)}, rounds=2, warm_ups=warm_ups, clock=clock)
        assert seconds == {"a": [1 + warm_ups, 2 + warm_ups]} and len(clock.ran) == 2 + warm_ups


def test_what_a_device_still_does_counts_for_the_candidate_that_gave_it():
    clock = FakeClock()

    def give():  # returns at once; the work is done when someone waits for it
        clock.pending += 5

    def settle():
        clock.now, clock.pending = clock.now + clock.pending, 0.0

    clock.pending = 1000  # from before the first candidate
    assert time_in_turns({"gpu": give}, rounds=1, warm_ups=0, settle=settle, clock=clock) == {"gpu": [5]}


def test_the_ratio_is_the_median_of_those_within_the_rounds():
    reference = [1.0, 2.0, 4.0]  # the machine slows down
    assert ratio([0.5, 1.0, 2.0], reference) == 0.5
    assert ratio([3.0, 1.0, 2.0], reference) == 0.5  # not the ratio of the medians, which is 1
    with pytest.raises(ValueError):
        ratio([1.0], reference)
