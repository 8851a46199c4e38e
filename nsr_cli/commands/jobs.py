"""Remembers how the jobs of a sweep ended, so that the sweep can name those that failed."""

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

ENDED: list[tuple[str, Exception | None]] = []  # (overrides, what went wrong), in the order of the sweep


class RememberJobs(Callback):
    """Called by Hydra after each job that runs in this process."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs) -> None:
        failed = job_return.status == JobStatus.FAILED
        ENDED.append((" ".join(job_return.overrides or []), job_return._return_value if failed else None))
