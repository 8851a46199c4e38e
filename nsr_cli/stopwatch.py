"""Time candidates in turns, so that a change of the machine's load affects all alike."""

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
        candidates: functions by name. Each runs once per round, and each round begins with another one.
        rounds: number of timed rounds.
        warm_ups: number of untimed rounds before them.
        settle: waits until the device is idle; a CPU needs no waiting.
        clock: returns the time in seconds.
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
    """Median over rounds of the ratio within a round; slow drifts of the machine's speed cancel in it."""
    return median(own / other for own, other in zip(seconds, reference, strict=True))
