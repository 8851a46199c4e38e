"""What runs on a node of a cluster, or in a slot of this machine: one job of a sweep, with the runs it came with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from nsr_cli.engine.interrupts import TIME_IS_UP
from nsr_cli.engine.processes import end_with_parent, rank, started, world_size
from nsr_cli.errors import describe
from nsr_cli.files import write_json
from nsr_cli.folders import SUBMITTED_CODE, code_digest
from nsr_cli.launch.sweep import Job, Sweep, state_file
from nsr_cli.runs.record import Record
from nsr_cli.runs.run import Run, run_of
from nsr_cli.runs.stored import Store, print_scores

PATIENCE = 120  # seconds that a process waits for Slurm to end it


def described(sweep: Sweep, job: Job, runs: list[Run]) -> str:
    """A job as text, for where it will run: the runs that it is asked for."""
    where = {"folder": str(sweep.folder), "results": str(sweep.results), "place": sweep.place}
    what = {"index": job.index, "run": job.run, "records": job.records}
    return json.dumps({**where, **what, "code": code_digest(), "runs": [run.to_json() for run in runs]})


def run(text: str) -> None:
    """Do a job, and write how it ends; ``text`` is what `described` makes."""
    job, began = json.loads(text), time.monotonic()
    folder, attempt = Path(job["folder"]), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    os.environ[SUBMITTED_CODE] = job["code"]
    code_digest()  # now: the files may change while this runs

    def tell(state: str, **more) -> None:
        pid = os.getpid()
        who = {"host": socket.gethostname(), "pid": pid, "started": started(pid), "rank": rank(), "world": world_size()}
        when = {"time": time.time(), "seconds": round(time.monotonic() - began, 1), "attempt": attempt}
        write_json(state_file(folder, job["index"], rank()), {"state": state, **who, **when, **more})

    if rank() == 0:
        tell("running")
    before = saved_files(job)
    for ending in (signal.SIGTERM, TIME_IS_UP):
        signal.signal(ending, exit_on_signal)
    failures, number = {}, 0
    try:
        for number, asked in enumerate(job["runs"]):
            try:
                do(run_of(asked))
            except Exception as error:  # the other cells need not fail; but all processes must do the same ones
                failures[number] = failure_of(error)
                if world_size() > 1:
                    break
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 130
        if code == 128 + TIME_IS_UP and job["place"] == "slurm":
            if rank() == 0 and saved_files(job) == before:
                failures[number] = print_failure(
                    "the time limit came before anything was saved; expected a larger timeout_min"
                )
            elif refusal := requeue(tell):
                failures[number] = print_failure(refusal)
            else:
                return
        elif code in (129, 130, 143, 128 + TIME_IS_UP):
            if rank() == 0:
                tell("stopped")
            raise
        else:
            failures[number] = failure_of(error)
    if failures:
        first = next(iter(failures.values()))
        tell("failed", **first, failures=failures)
        sys.exit(first["code"])
    if rank() == 0:
        tell("done")


def do(run: Run) -> dict[str, Record]:
    """Do what a run asks for, and print where everything is; torch is not imported where nothing is missing.

    Every way to a training goes through here: a verb, -m, run=true, and the jobs of this machine and of Slurm.

    Returns:
        As :func:`nsr_cli.runs.perform.perform`.
    """
    store = Store()
    store.images(run)
    if world_size() == 1 and store.is_finished(run):
        records = store.finished_records(run)
        print_scores(run, records)
        return records
    from nsr_cli.runs.perform import perform

    return perform(run)


def exit_on_signal(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def failure_of(error: BaseException) -> dict:
    """What went wrong, for the job's state; it is printed too."""
    text, code, foreseen = describe(error)
    return print_failure(text, code, "" if foreseen else "".join(traceback.format_exception(error)))


def print_failure(text: str, code: int = 1, trace: str = "") -> dict:
    text, trace = (words.encode(errors="backslashreplace").decode() for words in (text, trace))  # names of any bytes
    print(f"{trace}{text}", file=sys.stderr, flush=True)
    return {"error": text, "code": code, "trace": trace}


def requeue(tell: Callable) -> str | None:
    """The time is nearly up: back into the queue; returns why not, if Slurm refuses.

    Every process asks, for the first one may be waiting for another.
    """
    if rank() == 0:
        tell("requeued")
    else:
        time.sleep(PATIENCE / 6)  # in which the first one asks, or fails and takes all with it
    requeue = subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], capture_output=True, text=True)
    if requeue.returncode and rank() == 0 and world_size() == 1:
        return f"Slurm does not requeue it: {requeue.stderr.strip()}"
    time.sleep(PATIENCE)  # leaving now would look like an end
    return None


def saved_files(job: dict) -> set[tuple[str, int]]:
    """What there is of a run: checkpoints, weights, records."""
    results = Path(job["results"])
    paths = [*(results / "runs" / job["run"]).glob("*.pt"), *(results / record for record in job["records"])]
    return {(path.name, path.stat().st_mtime_ns) for path in paths if path.exists()}


if __name__ == "__main__":  # in a slot of this machine, with the job on standard input
    end_with_parent()
    run(sys.stdin.read())
