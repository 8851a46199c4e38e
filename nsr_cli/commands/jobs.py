"""How jobs end: a sweep names those that failed, a lone job fails without lines of Hydra's own."""

import functools
import sys
import traceback
from collections.abc import Callable

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nsr_cli.commands.explain import describe
from nsr_cli.errors import JobFailed

ENDED: list[Exception | None] = []  # of the jobs of a sweep: what went wrong, which was told when it did
TRACES: set[str] = set()  # that were shown: those of many jobs may be the same
LONE_FAILURE: list[Exception] = []


def job(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """A verb's task function; it stays importable by its name, which is how launchers send it elsewhere."""

    @functools.wraps(main)
    def task(cfg: DictConfig) -> None:
        try:
            main(cfg)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            LONE_FAILURE.append(error)

    return task


def tell(name: str, error: BaseException, verb: str) -> int:
    """Say what went wrong: one line if that was foreseen, else with a traceback. Returns the exit code."""
    text, code, foreseen = describe(error, verb)
    trace = error.trace if isinstance(error, JobFailed) else ""
    trace = trace if foreseen else "".join(traceback.format_exception(error))
    print(f"{'' if trace in TRACES else trace}{name}: {text}", file=sys.stderr, flush=True)
    TRACES.add(trace)
    return code


def forget() -> None:
    for memory in (ENDED, TRACES, LONE_FAILURE):
        memory.clear()
