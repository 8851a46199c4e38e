"""Several jobs of a sweep at once on this machine: each in a process of its own, with a GPU or cores of its own."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from nsr_cli.engine.interrupts import handling_signals
from nsr_cli.errors import UserError
from nsr_cli.folders import child_environment
from nsr_cli.launch.cells import Cell, Watched
from nsr_cli.launch.dispatch import Dispatcher
from nsr_cli.launch.job import exit_on_signal
from nsr_cli.launch.sweep import Job, Sweep, local_log
from nsr_cli.words import plural, print_line


class OnThisMachine(Dispatcher):
    """Runs several jobs at once on this machine. They end with this process, and save what they have."""

    place = "local"

    def check(self, wait: bool) -> None:
        slots(**self.settings)  # raises UserError for invalid settings
        if not wait:
            raise UserError("wait=false: the jobs of hydra/launcher=local end with the command; expected wait=true")

    def submit(self, title: str, groups: list[list[Cell]], results: Path) -> list[Watched]:
        watched, self.texts = self.create_jobs(title, groups, results)
        self.places = slots(**self.settings, wanted=len(groups))
        print_line(f"{plural(len(watched), 'job')}, {len(self.places)} at once: {watched[0].sweep.folder}")
        return watched

    def follow(self, watched: list[Watched]) -> None:
        try:
            with contextlib.closing(run_jobs(watched[0].sweep, self.texts, self.places)) as ends:
                for job, how in ends:
                    watch = watched[job.index]
                    self.note_end(watch, watch.sweep.state_of(job.index), how)
        except SystemExit as ending:  # of exit_on_signal; Ctrl-C says as much
            name = signal.Signals(ending.code - 128).name
            print(f"stopped by {name}, and so are its jobs; repeat the command to go on", file=sys.stderr, flush=True)
            raise


def slots(jobs: int | None, per_gpu: int, wanted: int = sys.maxsize) -> list[dict[str, str]]:
    """Environment variables of each slot for a job: its number of threads, and its GPU.

    Args:
        jobs: number of jobs at once; None: ``per_gpu`` on each GPU, or without GPUs one per core.
        per_gpu: number of jobs that share a GPU.
        wanted: number of jobs to run; fewer jobs have more cores each.

    Raises:
        UserError: a setting is out of range.
    """
    for name, value in (("jobs", jobs), ("per_gpu", per_gpu)):
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"hydra.launcher.{name}={value}: expected a whole number above 0")
    cards, cores = visible_gpus(), usable_cores()
    count = jobs or len(cards) * per_gpu or cores
    if cards and count > len(cards) * per_gpu:
        most = len(cards) * per_gpu
        raise UserError(f"hydra.launcher.jobs={jobs}: expected at most {most}, {per_gpu} for each GPU")
    count = min(count, wanted)
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    return [threads | ({"CUDA_VISIBLE_DEVICES": cards[i % len(cards)]} if cards else {}) for i in range(count)]


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES lists them."""
    if (shown := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [card for card in shown.split(",") if card.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def run_jobs(sweep: Sweep, texts: list[str], places: list[dict[str, str]]) -> Iterator[tuple[Job, str]]:
    """Run a sweep's jobs, as many at once as there are places. Yields each job, and how its process ended.

    If this ends early, by Ctrl-C or a signal, running jobs are told to stop, and save what they have.
    """
    free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for place in places:
        free.put(place)
    running: set[subprocess.Popen] = set()
    leaving = threading.Event()

    def run_job(job: Job, text: str) -> tuple[Job, str]:
        place = free.get()
        try:
            with open(local_log(sweep, job), "a", encoding="utf-8") as log:
                if leaving.is_set():
                    return job, "it never began"
                process = subprocess.Popen(
                    [sys.executable, "-u", "-m", "nsr_cli.launch.job", str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=child_environment() | place,
                    start_new_session=True,  # Ctrl-C is for this process, which passes it on once
                )
                running.add(process)
                if leaving.is_set():
                    process.send_signal(signal.SIGTERM)
                process.communicate(text)
                running.discard(process)
            code = process.returncode
            return job, f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except OSError as error:
            return job, f"it never began: {error.strerror}"
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool, handling_signals((signal.SIGTERM, signal.SIGHUP), exit_on_signal):
        futures = [pool.submit(run_job, job, text) for job, text in zip(sweep.jobs, texts, strict=True)]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            leaving.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.send_signal(signal.SIGTERM)
