"""Slurm: what is in the queue, how a job ended, how large an array may be; and submission, by submitit."""

import contextlib
import io
import os
import re
import subprocess
from dataclasses import dataclass

from nsr_cli.errors import UserError
from nsr_cli.launch.sweep import Sweep

NAME = "nsr-{sweep}.{first}"  # name of a Slurm job: its sweep, and the index of its array's first job
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED")
FORMAT = "%i|%j|%T|%r|%N"  # of squeue: id, name, state, reason, nodes


@dataclass(frozen=True)
class Queued:
    """A job in the queue.

    Attributes:
        job: its id, as scancel and scontrol take it.
        state: Slurm's word: PENDING, RUNNING, COMPLETING, ...
        reason: why it pends, where Slurm has one.
        nodes: where it runs.
    """

    job: str
    state: str
    reason: str
    nodes: str

    @property
    def is_pending(self) -> bool:
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")


def queue() -> dict[tuple[str, int], Queued] | None:
    """This user's jobs of nsr, by (sweep, index); None when Slurm does not answer."""
    shown = output_of("squeue", "-a", "-h", "-r", "-u", str(os.getuid()), "-o", FORMAT)
    if shown is None:
        return None
    found = {}
    for line in shown.splitlines():
        job, name, *rest = line.split("|")
        if own := re.fullmatch(r"nsr-(\S+)\.(\d+)", name):
            task = job.partition("_")[2]
            if task.isdigit() or not task:
                state, reason, nodes = rest
                known = "" if reason == "None" else reason
                known += f", until `scontrol release {job}`" * known.endswith(" held")  # as after a node's failure
                found[own[1], int(own[2]) + int(task or 0)] = Queued(job, state, known, nodes)
    return found


def facts_of(job: str) -> dict[str, str]:
    """Slurm's fields of a job, such as JobState and ExitCode, kept for minutes after its end; empty if unknown."""
    if not job:  # scontrol would list every job
        return {}
    array, _, task = job.partition("_")
    for line in (output_of("scontrol", "show", "job", "-o", job) or "").splitlines():
        return dict(re.findall(r"(\w+)=(\S*)", line))
    for line in (output_of("scontrol", "show", "job", "-o", array) or "").splitlines() if task else ():
        facts = dict(re.findall(r"(\w+)=(\S*)", line))
        if int(task) in tasks_in(facts.get("ArrayTaskId", "")):  # tasks that never began share a record
            return facts
    return {}


def tasks_in(text: str) -> set[int]:
    """The tasks that Slurm lists as in 1-3,7%2."""
    ends = [part.partition("-")[::2] for part in text.partition("%")[0].split(",") if part]
    return {task for first, last in ends for task in range(int(first), int(last or first) + 1)}


def describe_end(facts: dict[str, str]) -> str:
    """How a job ended, in words, by Slurm's fields of it."""
    if "JobState" not in facts:
        return "Slurm has no record of it"
    words = [facts["JobState"]]
    if facts.get("Reason", "None") != "None":
        words.append(facts["Reason"])
    if facts.get("ExitCode", "0:0") != "0:0":
        words.append("exit code {}, signal {}".format(*facts["ExitCode"].split(":")))
    return f"Slurm: {', '.join(words)}"


def array_limit() -> int:
    """The largest number of jobs that an array may have."""
    shown = output_of("scontrol", "show", "config") or ""
    limit = re.search(r"MaxArraySize\s*=\s*(\d+)", shown)
    return max(1, int(limit[1])) if limit else 1000


def submit(sweep: Sweep, texts: list[str], settings: dict) -> tuple[int, str]:
    """Submit a sweep's jobs, in as few arrays as the cluster allows.

    Args:
        sweep: of the jobs.
        texts: each job as text, from `job.job_text`.
        settings: of sbatch, under the names of hydra-submitit-launcher.

    Returns:
        (number of jobs that Slurm accepted, why it refused the others).

    Raises:
        UserError: Slurm refuses all jobs.
    """
    if odd := [mark for mark in "%\\" if mark in str(sweep.folder)]:
        raise UserError(f"results={sweep.results}: Slurm reads {odd[0]} in the names of files as its own")
    import submitit  # an extra

    from nsr_cli.launch.job import run

    limit = array_limit()
    settings = {name: value for name, value in settings.items() if name not in FIXED_SETTINGS}
    settings["setup"] = [*SETUP, *(settings["setup"] or [])]
    arrays = -(-len(texts) // limit)
    settings["array_parallelism"] = max(1, settings["array_parallelism"] // arrays)  # the arrays run side by side
    settings["srun_args"] = ["--kill-on-bad-exit=1"]  # a process that fails ends the others of its job
    taken: list[tuple[int, int, str]] = []
    for first in range(0, len(texts), limit):
        executor = submitit.AutoExecutor(sweep.folder / "logs", cluster="slurm", slurm_max_num_timeout=0)
        executor.update_parameters(
            name=NAME.format(sweep=sweep.name, first=first),
            stderr_to_stdout=True,
            **{name if name in UNPREFIXED else f"slurm_{name}": value for name, value in settings.items()},
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints what it raises
                jobs = executor.map_array(run, texts[first : first + limit])
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(re.findall(r"sbatch: error: (.*)", str(error))) or str(error).splitlines()[-1]
            if not taken:
                raise UserError(f"Slurm refuses the jobs: {said}") from None
            return first, said
        taken.append((first, len(jobs), jobs[0].job_id.partition("_")[0]))
        sweep.note_arrays(taken)
    return len(texts), ""


FIXED_SETTINGS = ("submitit_folder", "name", "max_num_timeout", "stderr_to_stdout")
UNPREFIXED = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes")
SETUP = [
    'if [ "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi',  # srun ignores the first
    "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
]


def output_of(*command: str) -> str | None:
    """The standard output of a command; None where it fails, or does not answer in two minutes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}  # a user's format
    try:
        shown = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, env=own)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if shown.returncode else shown.stdout
