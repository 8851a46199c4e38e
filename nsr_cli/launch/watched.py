"""A job that a command waits for."""

from dataclasses import dataclass

from nsr_cli.launch.cells import Cell
from nsr_cli.launch.sweep import Job, Sweep


@dataclass(frozen=True)
class Watched:
    """A job of this sweep, or of another one that had it before, and the cells that need it."""

    sweep: Sweep
    job: Job
    cells: list[Cell]

    @property
    def key(self) -> tuple[str, int]:
        return self.sweep.name, self.job.index
