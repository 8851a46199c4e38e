"""Timing candidates against each other: they take turns, so that a change of the machine's load hits all alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median


def time_in_turns(
    candidates: Mapping[Hashable, Callable[[], object]],
    rounds: int,
    *,
    warm_ups: int = 1,
    settle: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Hashable, list[float]]:
    """Seconds of each candidate in each round.

    Args:
        candidates: what to call; every one runs once in a round, and every round begins with another one.
        rounds: that count.
        warm_ups: rounds before them that do not.
        settle: waits until the device has done all that it was given; a CPU needs no waiting.
        clock: tells the time, in seconds.
    """
    names = list(candidates)
    seconds: dict[Hashable, list[float]] = {name: [] for name in names}
    for turn in range(warm_ups + rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            settle()
            began = clock()
            candidates[name]()
            settle()
            if turn >= warm_ups:
                seconds[name].append(clock() - began)
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> float:
    """Median over the rounds of the ratio within a round, in which slow drifts of the machine's speed cancel."""
    return median(own / other for own, other in zip(seconds, reference, strict=True))
