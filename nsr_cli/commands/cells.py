"""What a sweep asks for: a run for each combination of overrides, and whether it is there already."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.recorded import benchmarks_of, check_diverged, is_finished, lacks_weights, records_of
from nsr_cli.commands.settings import Run, check, check_share, run_of
from nsr_cli.data.catalog import image_paths
from nsr_cli.errors import Failed, Reported
from nsr_cli.launch.sweep import Job


@dataclass
class Cell:
    """One combination of overrides.

    Attributes:
        verb: of the command.
        words: the overrides, without those that all others have too.
        run: which they ask for; None where they ask for what cannot be.
        config: resolved, for the job.
        finished: whether all it asks for is there.
        failure: why it is not.
    """

    verb: str
    words: str
    run: Run | None = None
    config: dict | None = None
    finished: bool = False
    failure: Exception | None = None

    def records(self, results: Path) -> list[str]:
        """The files that will be there when it is done, below the results."""
        return [os.path.relpath(self.run.record(name), results) for name in self.config["benchmarks"]]

    def is_made_by(self, job: Job, results: Path) -> bool:
        """Whether a job of another sweep, which has its run, leaves nothing to be done for it."""
        more = any(self.config[key] for key in ("rescore", "explain", "save_images", "weights"))
        return not more and set(self.records(results)) <= set(job.records)

    def settle(
        self, config: DictConfig, failure: Exception | None = None, images_of: Callable = image_paths
    ) -> dict[str, dict]:
        """Find out whether it is finished, and return its records; if it is not, ``failure`` is why."""
        records = records_of(config, self.run)
        benchmarks = benchmarks_of(config, self.run, self.verb != "eval", images_of)
        self.finished, self.failure = is_finished(config, self.run, benchmarks, records), failure
        try:
            if self.finished:
                self.failure = None
                check_diverged(self.run, records)
        except Failed as diverged:
            self.finished, self.failure = False, diverged
        return records


def cells_of(
    verb: str,
    combinations: Sequence[Sequence[str]],
    composer: Composer,
    results: Path,
    processes: int,
    data: Path | None = None,
) -> list[Cell]:
    """The cells of a command; what is wrong with one is its failure, and none of the others' business.

    Args:
        verb: train, eval or ablate.
        combinations: the overrides of each.
        composer: of that verb's configs.
        results: the folder for all of them; absolute.
        processes: of each job, which share its batches.
        data: another folder of data than their own.
    """
    same = set.intersection(*map(set, combinations)) if len(combinations) > 1 else set()
    images_of = functools.cache(image_paths)  # one look at each data set, for all cells
    cells = []
    for overrides in combinations:
        words = " ".join(word for word in overrides if word not in same and not word.startswith("hydra"))
        cells.append(cell := Cell(verb, words))
        config = composer(overrides)
        try:
            check(config, trains=verb != "eval")
            config.results, config.data = str(results), str(Path(data or config.data).absolute())
            config.wait = True  # in the job, and for another one that has its run
            cell.config = OmegaConf.to_container(config)
            cell.run = run_of(config)
            cell.settle(config, images_of=images_of)
            if not cell.finished:
                check_share(config.batch, processes)
            if not cell.finished and verb != "eval" and lacks_weights(config, cell.run):
                images_of(config.train, Path(config.data))
        except Reported as error:
            cell.failure = error
    return cells
