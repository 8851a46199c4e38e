"""How jobs end: a sweep names those that failed, a lone job fails without lines of Hydra's own."""

import functools
import sys
from collections.abc import Callable, Iterable

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from nsr_cli.errors import JobFailed

ENDED: list[tuple[str, Exception | None]] = []  # (overrides, what went wrong) of the jobs of a sweep, in its order
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


class RememberJobs(Callback):
    """Called by Hydra around the jobs that run in this process."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs) -> None:
        failed = job_return.status == JobStatus.FAILED
        ENDED.append((" ".join(job_return.overrides or []), job_return._return_value if failed else None))


def forget() -> None:
    for memory in (ENDED, LONE_FAILURE):
        memory.clear()


def show_traces(failures: Iterable[Exception | None]) -> None:
    """The tracebacks of jobs that failed elsewhere; many may be the same."""
    traces = dict.fromkeys(failure.trace for failure in failures if isinstance(failure, JobFailed) and failure.trace)
    print("\n".join(traces), file=sys.stderr, end="")
