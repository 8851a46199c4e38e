"""A verb's task function for Hydra. It keeps how each job ended, for the exit code."""

from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nsr_cli.commands.explain import in_one_line


class Job:
    """The function that Hydra calls with a config. In a sweep, the launcher appends to ``ends``.

    Attributes:
        verb: of the command.
        main: runs the verb on a config.
        failure: the error of a single run, or None.
        ends: for each cell of a sweep its error, which was printed already, or None.
    """

    def __init__(self, verb: str, main: Callable[[DictConfig], Any]):
        self.verb, self.main = verb, main
        self.failure: BaseException | None = None
        self.ends: list[BaseException | None] = []

    def __call__(self, cfg: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # a launcher of another package, which reports errors itself
            return self.main(cfg)
        try:
            return self.main(cfg)
        except Exception as error:
            self.failure = in_one_line(error, self.verb)
            return None
