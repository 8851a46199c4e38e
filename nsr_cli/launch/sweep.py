"""The folder of a sweep: which jobs it has, and what each of them says of itself.

results/sweeps/1121-091233-3f2a/sweep.json       its jobs, written before any is submitted
                                arrays.json      the arrays of Slurm that they are in
                                states/7.json    what job 7 says: running, requeued, stopped, failed or done
                                states/7-1.json  what its second process says, if it fails
                                logs/            what its jobs print
"""

import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from nsr_cli.engine.processes import started
from nsr_cli.files import write_json


@dataclass(frozen=True)
class Job:
    """One job of a sweep: one run.

    Attributes:
        index: in its sweep.
        run: the name of the run, which is that of its folder.
        cells: the overrides of each config that asks for the run: several differ in what is scored of it.
        records: the files that will be there when it is done, below the results.
    """

    index: int
    run: str
    cells: list[str]
    records: list[str]

    def __str__(self) -> str:
        return "; ".join(self.cells) or self.run


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, and what is written there."""

    folder: Path
    title: str  # the command
    place: str  # slurm or local
    jobs: list[Job]
    host: str  # where the command ran
    pid: int  # its process
    started: float | None  # when that began

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def results(self) -> Path:
        return self.folder.parents[1]

    def state_of(self, index: int) -> dict | None:
        """What a job says of itself; None before it has begun."""
        own = _read_state(state_file(self.folder, index))
        alone = own is not None and own["world"] == 1  # else look for others, among the states of all jobs
        others = [] if alone else map(_read_state, (self.folder / "states").glob(f"{index}-*.json"))
        return _telling([state for state in (own, *others) if state])

    def states(self) -> dict[int, dict]:
        """What all jobs that have begun say of themselves."""
        found: dict[int, list[dict]] = {}
        for path in (self.folder / "states").glob("*.json"):
            index = path.stem.partition("-")[0]
            if index.isdigit() and (state := _read_state(path)):
                found.setdefault(int(index), []).append(state)
        return {index: _telling(states) for index, states in found.items()}

    def note_arrays(self, arrays: list[tuple[int, int, str]]) -> None:
        """Write down the arrays of its jobs: (index of the first job, how many, the array's id)."""
        write_json(self.folder / "arrays.json", {"arrays": arrays})

    def arrays(self) -> list[tuple[int, int, str]]:
        """What was noted of them."""
        noted = (_read(self.folder / "arrays.json") or {}).get("arrays")
        good = isinstance(noted, list) and all(
            isinstance(n, list) and list(map(type, n)) == [int, int, str] for n in noted
        )
        return [tuple(one) for one in noted] if good else []

    def slurm_job(self, index: int) -> str | None:
        """The id of a job, as Slurm's commands take it; None before it is submitted."""
        for first, count, array in self.arrays():
            if first <= index < first + count:
                return f"{array}_{index - first}" if count > 1 else array
        return None


def begin(results: Path, title: str, place: str, jobs: list[Job]) -> Sweep:
    """Make the folder of a new sweep; no other sweep has it ever."""
    name = f"{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder, pid = results.absolute() / "sweeps" / name, os.getpid()
    sweep = Sweep(folder, title, place, jobs, socket.gethostname(), pid, started(pid))
    (folder / "states").mkdir(parents=True)
    (folder / "logs").mkdir()
    head = {"title": title, "place": place, "host": sweep.host, "pid": pid, "started": sweep.started}
    write_json(folder / "sweep.json", {"format": 1, **head, "jobs": [asdict(job) for job in jobs]})
    return sweep


def read_sweep(folder: Path) -> Sweep | None:
    """The sweep in a folder, or None where there is none."""
    content = _read(folder / "sweep.json")
    try:
        if content.pop("format") != 1:
            return None
        jobs = [Job(**job) for job in content.pop("jobs")]
        sweep = Sweep(folder.absolute(), **content, jobs=jobs)
        texts = [sweep.title, sweep.place, sweep.host, *(text for j in jobs for text in (j.run, *j.cells, *j.records))]
        good = all(isinstance(text, str) for text in texts) and [job.index for job in jobs] == list(range(len(jobs)))
        return sweep if good else None
    except (AttributeError, KeyError, TypeError):
        return None


def state_file(folder: Path, index: int, rank: int = 0) -> Path:
    """Where a process of a job says how it is: the first one always, the others when they fail."""
    return folder / "states" / (f"{index}-{rank}.json" if rank else f"{index}.json")


def local_log(sweep: Sweep, job: Job) -> Path:
    """What a job of this machine prints."""
    return sweep.folder / "logs" / f"{job.index}.log"


def _telling(states: list[dict]) -> dict | None:
    """Of the states of a job's processes: the failure that came first in the last attempt, else the first one's."""
    last = max((state["attempt"] for state in states), default=0)
    failed = [state for state in states if state["state"] == "failed" and state["attempt"] == last]
    if failed:
        return min(failed, key=lambda state: state["time"])
    return next((state for state in states if state["rank"] == 0), None)


def _read(path: Path) -> dict | None:
    """The object of a JSON file; None where there is none, or the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


STATE = {
    "state": str,
    "host": str,
    "pid": int,
    "rank": int,
    "world": int,
    "time": float,
    "seconds": float,
    "attempt": int,
}
FAILURE = {"error": str, "code": int, "trace": str}


def _read_state(path: Path) -> dict | None:
    """What a process says of itself; None where it says nothing, or the file is damaged."""
    state = _read(path)
    if state is None or not _fits(state, STATE):
        return None
    if state["state"] == "failed":
        failures = state.get("failures")
        if not _fits(state, FAILURE) or not isinstance(failures, dict):
            return None
        if not all(isinstance(one, dict) and _fits(one, FAILURE) for one in failures.values()):
            return None
    return state | {"started": state.get("started")}


def _fits(content: dict, types: dict[str, type]) -> bool:
    numbers = (int, float)
    return all(isinstance(content.get(key), numbers if kind is float else kind) for key, kind in types.items())
