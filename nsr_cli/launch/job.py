"""One job of a sweep, as it runs on a node of a cluster or in a slot of this machine."""

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
from nsr_cli.engine.processes import end_with_parent, rank, start_time, world_size
from nsr_cli.errors import describe
from nsr_cli.files import write_json
from nsr_cli.folders import SUBMITTED_CODE, code_digest
from nsr_cli.launch.sweep import Job, Sweep, state_file
from nsr_cli.runs.record import Record
from nsr_cli.runs.run import Run, run_of
from nsr_cli.runs.stored import Store, print_scores

REQUEUE_WAIT = 120  # seconds that a process waits for Slurm to end it


def job_text(sweep: Sweep, job: Job, runs: list[Run]) -> str:
    """A job as JSON, for the process that will run it: its folder, its records, and the runs to make."""
    where = {"folder": str(sweep.folder), "results": str(sweep.results), "place": sweep.place}
    what = {"index": job.index, "run": job.run, "records": job.records}
    return json.dumps({**where, **what, "code": code_digest(), "runs": [run.to_json() for run in runs]})


def run(text: str) -> None:
    """Run a job and write its states; ``text`` comes from `job_text`. Exits with the code of the first failure."""
    job, began = json.loads(text), time.monotonic()
    folder, attempt = Path(job["folder"]), int(os.environ.get("SLURM_RESTART_COUNT", 0))
    os.environ[SUBMITTED_CODE] = job["code"]
    code_digest()  # computed now, because the files may change while this runs

    def write_state(state: str, **more) -> None:
        pid = os.getpid()
        who = {
            "host": socket.gethostname(),
            "pid": pid,
            "started": start_time(pid),
            "rank": rank(),
            "world": world_size(),
        }
        when = {"time": time.time(), "seconds": round(time.monotonic() - began, 1), "attempt": attempt}
        try:
            write_json(state_file(folder, job["index"], rank()), {"state": state, **who, **when, **more})
        except OSError as error:  # as of a full disk; the log, where it ends, is the last place to say so
            sys.exit(failure_of(error)["code"])

    if rank() == 0:
        write_state("running")
    before = saved_files(job)
    for ending in (signal.SIGTERM, TIME_IS_UP):
        signal.signal(ending, exit_on_signal)
    failures, number = {}, 0
    try:
        for number, asked in enumerate(job["runs"]):
            try:
                do_run(run_of(asked))
            except Exception as error:  # the other cells go on; but several processes must all do the same
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
            elif refusal := requeue(write_state):
                failures[number] = print_failure(refusal)
            else:
                return
        elif code in (129, 130, 143, 128 + TIME_IS_UP):
            if rank() == 0:
                write_state("stopped")
            raise
        else:
            failures[number] = failure_of(error)
    if failures:
        failures |= dict.fromkeys(range(number + 1, len(job["runs"])), failures.get(number))  # they were not tried
        first = next(iter(failures.values()))
        write_state("failed", **first, failures=failures)
        sys.exit(first["code"])
    if rank() == 0:
        write_state("done")


def do_run(run: Run) -> dict[str, Record]:
    """Make what a run lacks, and print where everything is. Torch is imported only where something is missing.

    Every training starts here: of a verb, of -m, of run=true, and of the jobs on this machine and on Slurm.

    Returns:
        The records by benchmark, as :func:`nsr_cli.runs.perform.perform`.
    """
    store = Store()
    if not run.request.dry_run:  # which tells the cost before it looks for images
        store.images(run)
    if world_size() == 1 and store.is_finished(run):
        records = store.finished_records(run)
        print_scores(run, records)
        return records
    from nsr_cli.runs.perform import perform

    return perform(run)


def exit_on_signal(number: int, frame: object) -> None:
    """A signal handler: exit with code 128 + number."""
    raise SystemExit(128 + number)


def failure_of(error: BaseException) -> dict:
    """Print an error, and return it as an entry of the job's state."""
    text, code, foreseen = describe(error)
    return print_failure(text, code, "" if foreseen else "".join(traceback.format_exception(error)))


def print_failure(text: str, code: int = 1, trace: str = "") -> dict:
    """Print a failure, and return it as an entry of the job's state."""
    text, trace = (words.encode(errors="backslashreplace").decode() for words in (text, trace))  # names of any bytes
    print(f"{trace}{text}", file=sys.stderr, flush=True)
    return {"error": text, "code": code, "trace": trace}


def requeue(write_state: Callable) -> str | None:
    """Ask Slurm to put this job back into the queue. Returns why Slurm refuses, or None.

    Every process asks, because the first one may be waiting for another.
    """
    if rank() == 0:
        write_state("requeued")
    else:
        time.sleep(REQUEUE_WAIT / 6)  # meanwhile the first one asks, or fails, which ends all
    requeue = subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], capture_output=True, text=True)
    if requeue.returncode and rank() == 0 and world_size() == 1:
        return f"Slurm does not requeue it: {requeue.stderr.strip()}"
    time.sleep(REQUEUE_WAIT)  # an exit now would look like the job's end
    return None


def saved_files(job: dict) -> set[tuple[str, int]]:
    """(name, modification time in ns) of the checkpoints, weights and records of a job's run."""
    results = Path(job["results"])
    paths = [*(results / "runs" / job["run"]).glob("*.pt"), *(results / record for record in job["records"])]
    return {(path.name, path.stat().st_mtime_ns) for path in paths if path.exists()}


if __name__ == "__main__":  # in a slot of this machine, with its parent's id, and the job on standard input
    end_with_parent(int(sys.argv[1]))
    run(sys.stdin.read())
