"""A verb's task function for Hydra: how each job ended is kept on it, which becomes the exit code."""

from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nsr_cli.commands.explain import in_one_line


class Job:
    """What Hydra calls with a config; of a sweep, the launcher that it is handed to notes the ends.

    Attributes:
        verb: whose it is.
        main: what the verb does with a config.
        failure: of a run alone.
        ends: of the cells of a sweep: what went wrong, or None; it was told when it did.
    """

    def __init__(self, verb: str, main: Callable[[DictConfig], Any]):
        self.verb, self.main = verb, main
        self.failure: BaseException | None = None
        self.ends: list[BaseException | None] = []

    def __call__(self, cfg: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # another launcher than ours, which reports by itself
            return self.main(cfg)
        try:
            return self.main(cfg)
        except Exception as error:
            self.failure = in_one_line(error, self.verb)
            return None
