"""The progress of each job of a sweep, by its records, its state file and the queue, without Slurm's accounting."""

import contextlib
import json
import os
import socket
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nsr_cli.engine.processes import start_time
from nsr_cli.launch.slurm import Queued
from nsr_cli.launch.sweep import Job, Sweep, local_log
from nsr_cli.regular import open_regular
from nsr_cli.runs.record import is_whole

WORDS = ("done", "running", "pending", "failed", "missing")


@dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes:
        job: of a sweep.
        word: one of WORDS.
        state: its deciding state, or None.
        queued: its line of the queue, or None.
        remaining: seconds until it is done; None where unknown.
        duration: seconds that it took or will take; None where unknown.
        detail: why it failed, why it pends, or its training step.
    """

    job: Job
    word: str
    state: dict | None = None
    queued: Queued | None = None
    remaining: float | None = None
    duration: float | None = None
    detail: str = ""


Records = Callable[[str], float | None]


def records_in(results: Path) -> Records:
    """A function from a record's file, as jobs name it, to when it was written in seconds since the epoch.

    It returns None where there is no whole record. Each file is read at most once, and only if it is asked for.
    """

    @cache
    def written(name: str) -> float | None:
        path = results / name
        with contextlib.suppress(OSError):  # removed meanwhile
            return path.stat().st_mtime if is_whole(path) else None

    return written


def progress_of(sweep: Sweep, records: Records, queue: dict[tuple[str, int], Queued] | None) -> list[Progress]:
    """The progress of each of a sweep's jobs; ``queue`` is None where Slurm does not answer."""
    states = sweep.states()
    queue, silent = queue or {}, queue is None and sweep.place == "slurm"
    found = []
    for job in sweep.jobs:
        state, queued = states.get(job.index), queue.get((sweep.name, job.index))
        found.append(_progress(sweep, job, state, queued, records, silent))
    return found


def _progress(
    sweep: Sweep, job: Job, state: dict | None, queued: Queued | None, records: Records, silent: bool
) -> Progress:
    said = state["state"] if state else None
    if said == "done" and None not in map(records, job.records):
        return Progress(job, "done", state, duration=state["seconds"])
    lives = sweep.place == "local" and said in (None, "running") and is_alive(state or vars(sweep))
    if said == "running" and (lives or silent or (queued and not queued.is_pending)):
        return _training_progress(sweep, job, state, queued)
    if queued or lives:
        word = "pending" if not queued or queued.is_pending else "running"
        return Progress(job, word, state, queued, detail=queued.reason if queued and word == "pending" else "")
    if _was_done_since(sweep, job, state, records):
        return Progress(job, "done", state)
    if said == "failed":
        return Progress(job, "failed", state, detail=state["error"])
    if said == "running":
        return Progress(job, "failed", state, detail="it ended without a word")
    if said is None and not silent and log_of(sweep, job).exists():
        return Progress(job, "failed", detail="it ended before it began")
    return Progress(job, "missing", state, detail="stopped before its end; what it had is kept" if said else "")


def _was_done_since(sweep: Sweep, job: Job, state: dict | None, records: Records) -> bool:
    """Whether a job that is gone has all its records, and one was written since it ended, as by another sweep.

    Records alone do not tell: the job may have had to score them anew, or to keep weights or images too.
    """
    written = [records(name) for name in job.records]
    if None in written or not written:
        return False
    if state is None:  # it never began
        return max(written) > (sweep.folder / "sweep.json").stat().st_mtime
    if state["state"] == "failed" and (sweep.results / "runs" / job.run / "diverged.txt").exists():  # has a record
        return False
    decisive = min if state["state"] == "running" else max  # the state of a killed job is from its beginning
    return decisive(written) > state["time"]


def log_of(sweep: Sweep, job: Job, state: dict | None = None) -> Path:
    """The log of a job, or of the process that wrote its deciding state."""
    if sweep.place == "local":
        return local_log(sweep, job)
    rank = state["rank"] if state else 0
    return sweep.folder / "logs" / f"{sweep.slurm_job(job.index) or ''}_{rank}_log.out"


def _training_progress(sweep: Sweep, job: Job, state: dict, queued: Queued | None) -> Progress:
    """The progress of a running job, with the step of its training."""
    where = f"on {queued.nodes}" if queued else f"on {state['host']}"
    line, stats = None, sweep.results / "runs" / job.run / "stats.jsonl"
    try:
        line = last_line(stats)
    except OSError as error:
        where += f"; cannot read {stats}: {error.strerror}"
    step, steps, speed, loss = ((line or {}).get(key) for key in ("step", "steps", "steps_per_second", "loss"))
    good = all(type(number) in (int, float) and 0 <= number < 2**40 for number in (step, steps, speed, loss))
    if not good or step > steps or not steps / 2**40 < speed:  # damaged, or NaN
        return Progress(job, "running", state, queued, detail=where)
    detail = f"step {step:,} of {steps:,}, {speed:.1f} steps/s, loss {loss:.4f}, {where}"
    return Progress(job, "running", state, queued, (steps - step) / speed, steps / speed, detail)


def seconds_left(found: list[Progress]) -> float | None:
    """Seconds until all running and pending jobs are done, if as many run at once as now; None where unknown."""
    durations = [progress.duration for progress in found if progress.duration]
    running = [progress for progress in found if progress.word == "running"]
    pending = sum(progress.word == "pending" for progress in found)
    if not durations or not running:
        return None
    usual = statistics.fmean(durations)
    left = [usual if progress.remaining is None else progress.remaining for progress in running]
    return max(max(left), (sum(left) + pending * usual) / len(running))


def is_alive(process: dict) -> bool:
    """Whether a process is alive; one on another machine is taken to be."""
    return process["host"] != socket.gethostname() or start_time(process["pid"]) == process["started"]


def last_line(path: Path) -> dict | None:
    """The object in the last whole line of a file of JSON lines, or None. Reads only the last 16 KiB.

    Raises:
        OSError: the file is there, but cannot be read.
    """
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2**14))
            line = json.loads(file.read().rpartition(b"\n")[0].rpartition(b"\n")[2])
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
