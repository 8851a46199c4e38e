"""Batches that are prepared while the step before is computed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nsr_cli.data.sampler import Batch


class Prefetch:
    """The batches of consecutive steps, each prepared by a thread during the step before.

    Args:
        batch_at: the batch of a step, counted from 0.
        first: the first step.
        end: the step after the last one.

    Attributes:
        waited: seconds that ``next`` has waited for batches.
    """

    def __init__(self, batch_at: Callable[[int], Batch], first: int, end: int):
        self.batch_at, self.step, self.end, self.waited = batch_at, first, end, 0.0
        self.thread, self.upcoming = ThreadPoolExecutor(1), None

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *error: object) -> None:
        self.thread.shutdown()

    def next(self) -> Batch:
        """The batch of the next step; begins to prepare the one after it."""
        asked = time.monotonic()
        upcoming = self.upcoming or self.thread.submit(self.batch_at, self.step)
        batch = upcoming.result()
        self.waited += time.monotonic() - asked
        self.step += 1
        self.upcoming = self.thread.submit(self.batch_at, self.step) if self.step < self.end else None
        return batch
