"""A job that a command waits for."""

from dataclasses import dataclass

from nsr_cli.launch.cells import Cell
from nsr_cli.launch.sweep import Job, Sweep


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
