"""What a sweep asks for: a run for each combination of overrides, and whether it is there already."""

import os
from dataclasses import dataclass
from pathlib import Path

from nsr_cli.errors import Reported
from nsr_cli.launch.sweep import Job
from nsr_cli.runs.record import Record, first_psnr
from nsr_cli.runs.run import Run, check_share
from nsr_cli.runs.stored import Store


@dataclass
class Cell:
    """One combination of overrides.

    Attributes:
        verb: of the command.
        words: the overrides, without those that all others have too.
        run: which they ask for; None where they ask for what cannot be.
        finished: whether all it asks for is there.
        failure: why it is not.
        psnr: the first score of a cell that is finished; sweepers such as Optuna's go by it.
    """

    verb: str
    words: str
    run: Run | None = None
    finished: bool = False
    failure: Exception | None = None
    psnr: float | None = None

    @property
    def command(self) -> str:
        """As it would be typed alone."""
        return f"nsr {self.verb} {self.words.removeprefix(f'{self.verb} ')}".rstrip()

    def records(self, results: Path) -> list[str]:
        """The files that will be there when it is done, below the results."""
        return [os.path.relpath(self.run.record(name), results) for name in self.run.request.benchmarks]

    def is_made_by(self, job: Job, results: Path) -> bool:
        """Whether a job of another sweep, which has its run, leaves nothing to be done for it."""
        return not self.run.request.asks_for_more and set(self.records(results)) <= set(job.records)

    def prepare(self, store: Store, processes: int) -> None:
        """Find out whether it is finished, and if not, whether it can be made by so many processes."""
        try:
            store.images(self.run)
            self.check_finished(store)
            if self.finished or self.failure:
                return
            check_share(self.run, processes)
            if self.run.request.may_train and self.run.lacks_weights:
                store.training_images(self.run)
        except Reported as error:
            self.failure = error

    def check_finished(self, store: Store, failure: Exception | None = None) -> dict[str, Record]:
        """Find out whether it is finished, and return its records; if it is not, ``failure`` is why."""
        self.finished, self.failure = False, failure
        try:
            if not store.is_finished(self.run):
                return {}
            records = store.finished_records(self.run)
        except Reported as error:  # it diverged, or its images are gone
            self.failure = error
            return {}
        self.finished, self.failure = True, None
        self.psnr = first_psnr(records)
        return records
