"""The cells of a sweep: a run for each combination of overrides, and whether it is finished."""

import os
from dataclasses import dataclass
from pathlib import Path

from nsr_cli.errors import Reported
from nsr_cli.launch.sweep import Job, Sweep
from nsr_cli.runs.record import Record, first_psnr
from nsr_cli.runs.run import Run, check_share
from nsr_cli.runs.stored import Store


@dataclass
class Cell:
    """One combination of overrides.

    Attributes:
        verb: of the command.
        words: the overrides, without those that all cells share.
        run: the run that they ask for; None where they are invalid.
        finished: whether everything that the run asks for exists.
        failure: why the cell failed, or None.
        psnr: the first PSNR of a finished cell in dB, which sweepers such as Optuna's maximise.
    """

    verb: str
    words: str
    run: Run | None = None
    finished: bool = False
    failure: Exception | None = None
    psnr: float | None = None

    @property
    def command(self) -> str:
        """The command line that makes this cell alone."""
        return f"nsr {self.verb} {self.words.removeprefix(f'{self.verb} ')}".rstrip()

    def records(self, results: Path) -> list[str]:
        """The files of its records, relative to the results."""
        return [os.path.relpath(self.run.record(name), results) for name in self.run.request.benchmarks]

    def is_made_by(self, job: Job, results: Path) -> bool:
        """Whether a job of another sweep, which has the same run, makes all that this cell asks for."""
        asked = self.run.request
        is_listed = set(self.records(results)) <= set(job.records) and set(asked.metrics) <= set(job.metrics)
        return is_listed and not asked.asks_for_more

    def prepare(self, store: Store, processes: int) -> None:
        """Set ``finished``; if it is not, set ``failure`` where ``processes`` processes cannot make the run."""
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
        """Set ``finished``, and return the records by benchmark. An unfinished cell has none, and takes ``failure``."""
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


@dataclass(frozen=True)
class Watched:
    """A job, of the new sweep or of one that was submitted before, and the cells that need it."""

    sweep: Sweep
    job: Job
    cells: list[Cell]

    @property
    def key(self) -> tuple[str, int]:
        """(sweep's name, job's index), as in the queue."""
        return self.sweep.name, self.job.index
