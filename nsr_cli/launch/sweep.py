"""The folder of a sweep: its jobs, and the states that they write.

results/sweeps/1121-091233-3f2a/sweep.json       its jobs, written before any is submitted
                                arrays.json      the arrays of Slurm that they are in
                                states/7.json    the state of job 7: running, requeued, stopped, failed or done
                                states/7-1.json  the state of its second process, if that fails
                                logs/            the output of its jobs
"""

import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nsr_cli.engine.processes import start_time
from nsr_cli.files import write_json
from nsr_cli.regular import read_regular


@dataclass(frozen=True)
class Job:
    """One job of a sweep: one run.

    Attributes:
        index: in its sweep.
        run: the name of the run and of its folder.
        cells: the overrides of each cell that asks for the run; cells may differ in what is scored.
        records: the files of the records that the job makes, relative to the results.
        metrics: measured for all of these records, beside those of the conventions.
    """

    index: int
    run: str
    cells: list[str]
    records: list[str]
    metrics: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join(dict.fromkeys(self.cells)) or self.run


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its folder describes it."""

    folder: Path
    title: str  # the command
    place: str  # slurm or local
    jobs: list[Job]
    host: str  # the machine on which the command ran
    pid: int  # the command's process
    started: float | None  # that process's start_time

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def results(self) -> Path:
        return self.folder.parents[1]

    def state_of(self, index: int) -> dict | None:
        """The deciding state of a job; None before it has begun."""
        own = state_file(self.folder, index)
        state = _read_state(own)
        if state and state["world"] == 1:  # else its other processes may have failed
            return state
        return _states_by_job([own, *own.parent.glob(f"{index}-*.json")]).get(index)

    def states(self) -> dict[int, dict]:
        """The deciding state of each job that has begun, by index."""
        return _states_by_job((self.folder / "states").glob("*.json"))

    def note_arrays(self, arrays: list[tuple[int, int, str]]) -> None:
        """Write down the arrays of its jobs: (index of the first job, number of jobs, the array's id)."""
        write_json(self.folder / "arrays.json", {"arrays": arrays})

    def arrays(self) -> list[tuple[int, int, str]]:
        """The arrays that `note_arrays` wrote; none before that."""
        noted = (_read_object(self.folder / "arrays.json") or {}).get("arrays")
        return [tuple(one) for one in noted] if _is_list(noted, _is_array) else []

    def slurm_job(self, index: int) -> str | None:
        """The id of a job, as Slurm's commands take it; None before it is submitted."""
        for first, count, array in self.arrays():
            if first <= index < first + count:
                return f"{array}_{index - first}" if count > 1 else array
        return None


def create_sweep(results: Path, title: str, place: str, jobs: list[Job]) -> Sweep:
    """Make the folder of a new sweep, under a name that no other sweep gets."""
    name = f"{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder, pid = results.absolute() / "sweeps" / name, os.getpid()
    sweep = Sweep(folder, title, place, jobs, socket.gethostname(), pid, start_time(pid))
    head = {"title": title, "place": place, "host": sweep.host, "pid": pid, "started": sweep.started}
    try:
        (folder / "states").mkdir(parents=True)
        (folder / "logs").mkdir()
        write_json(folder / "sweep.json", {"format": 1, **head, "jobs": [asdict(job) for job in jobs]})
    except BaseException:  # as of a full disk
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sweep


def read_sweep(folder: Path) -> Sweep | None:
    """The sweep in a folder, or None where there is none, or its file is damaged."""
    content = _read_object(folder / "sweep.json") or {}
    jobs = content.pop("jobs", None)
    if content.pop("format", None) != 1 or not _has_entries(content, HEAD) or not _is_list(jobs, _is_job):
        return None
    if [job["index"] for job in jobs] != list(range(len(jobs))):
        return None
    try:
        return Sweep(folder.absolute(), **content, jobs=[Job(**job) for job in jobs])
    except TypeError:  # an entry that is not known
        return None


def state_file(folder: Path, index: int, rank: int = 0) -> Path:
    """The file of a process's state: the first process of a job always writes one, the others when they fail."""
    return folder / "states" / (f"{index}-{rank}.json" if rank else f"{index}.json")


def local_log(sweep: Sweep, job: Job) -> Path:
    """The log of a job on this machine."""
    return sweep.folder / "logs" / f"{job.index}.log"


def _states_by_job(paths: Iterable[Path]) -> dict[int, dict]:
    """The deciding state of each job by index, from these files; files of other names or contents are ignored."""
    found: dict[int, list[dict]] = {}
    for path in paths:
        name = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", path.stem)
        if name and (state := _read_state(path)) and state["rank"] == int(name[2] or 0):
            found.setdefault(int(name[1]), []).append(state)
    return {index: state for index, states in found.items() if (state := _deciding_state(states))}


def _deciding_state(states: list[dict]) -> dict | None:
    """The state that counts for a job: the earliest failure of the last attempt, else that of its first process."""
    last = max((state["attempt"] for state in states), default=0)
    failed = [state for state in states if state["state"] == "failed" and state["attempt"] == last]
    if failed:
        return min(failed, key=lambda state: state["time"])
    return next((state for state in states if state["rank"] == 0), None)


def _read_object(path: Path) -> dict | None:
    """The object of a JSON file; None where there is none, or the file is damaged."""
    try:
        content = json.loads(text := read_regular(path).decode())
        if "\\u" in text:
            json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate cannot be printed
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any, least: int = 0, most: int = 2**31) -> bool:
    return type(value) is int and least <= value <= most


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**40  # NaN is not


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))


def _has_entries(value: Any, entries: dict[str, Callable[[Any], bool]]) -> bool:
    return isinstance(value, dict) and all(holds(value.get(key)) for key, holds in entries.items())


def _is_job(value: Any) -> bool:
    return isinstance(value, dict) and _has_entries({"metrics": []} | value, JOB)  # older sweeps list none


def _is_array(value: Any) -> bool:
    whole = isinstance(value, list) and len(value) == 3 and all(map(_is_integer, value[:2]))
    return whole and _is_text(value[2]) and value[2].isdecimal()


PLACES = ("slurm", "local")
WORDS = ("running", "requeued", "stopped", "failed", "done")
HEAD = {"title": _is_text, "place": PLACES.__contains__, "host": _is_text, "pid": _is_integer}
JOB = {
    "index": _is_integer,
    "run": lambda value: _is_text(value) and re.fullmatch(r"[\w.-]{1,200}", value),  # a folder's name
    **dict.fromkeys(("cells", "records", "metrics"), lambda value: _is_list(value, _is_text)),
}
STATE = {
    "state": WORDS.__contains__,
    "host": _is_text,
    **dict.fromkeys(("pid", "rank", "world", "attempt"), _is_integer),
    **dict.fromkeys(("time", "seconds"), _is_seconds),
}
FAILURE = {"error": _is_text, "code": lambda value: _is_integer(value, 1, 255), "trace": _is_text}


def _read_state(path: Path) -> dict | None:
    """The state of a process; None where there is no file, or it is damaged."""
    state = _read_object(path)
    if not _has_entries(state, STATE):
        return None
    if state["state"] == "failed":
        failures = state.get("failures")
        if not _has_entries(state, FAILURE) or not isinstance(failures, dict) or not failures:
            return None
        if not all(_has_entries(one, FAILURE) for one in failures.values()):
            return None
    return state | {"started": state.get("started")}
