"""What a sweep asks for: a run for each combination of overrides, and whether it is there already."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.recorded import check_diverged, is_finished, lacks_weights
from nsr_cli.commands.settings import Run, check, run_of
from nsr_cli.data.catalog import image_paths
from nsr_cli.errors import Reported


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

    def settle(self, config: DictConfig, failure: Exception | None = None) -> None:
        """Find out whether it is finished; if it is not, ``failure`` is why."""
        self.finished, self.failure = is_finished(config, self.run), None
        try:
            if self.finished:
                check_diverged(config, self.run)
        except Reported as error:
            failure, self.finished = error, False
        if not self.finished:
            self.failure = failure


def cells_of(
    verb: str, combinations: Sequence[Sequence[str]], composer: Composer, results: Path, data: Path | None = None
) -> list[Cell]:
    """The cells of a command; what is wrong with one is its failure, and none of the others' business.

    Args:
        verb: train, eval or ablate.
        combinations: the overrides of each.
        composer: of that verb's configs.
        results: the folder for all of them; absolute.
        data: another folder of data than their own.
    """
    same = set.intersection(*map(set, combinations)) if len(combinations) > 1 else set()
    cells = []
    for overrides in combinations:
        words = " ".join(word for word in overrides if word not in same and not word.startswith("hydra"))
        cells.append(cell := Cell(verb, words))
        config = composer(overrides)
        config.results, config.data = str(results), str(Path(data or config.data).absolute())
        config.wait = True  # in the job, and for another one that has its run
        cell.config = OmegaConf.to_container(config)
        try:
            check(config, trains=verb != "eval")
            cell.run = run_of(config)
            cell.settle(config)
            if not cell.finished and verb != "eval" and lacks_weights(config, cell.run):
                image_paths(config.train, Path(config.data))
        except Reported as error:
            cell.failure = error
    return cells
