"""A user's shell on a cluster, in a folder of its own, and what commands leave below their results."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mini_slurm
import torch
from terminal import CHECKOUT, PATIENCE, wait_until

from nsr_cli.launch.sweep import Sweep, read_sweep

TINY = "blocks=1 units=4 width=1 steps=6 batch=2 threads=1 device=cpu"  # a run of a second
SMALL_JOBS = {"TIMEOUT_MIN": "10", "MEM_GB": "1", "CPUS_PER_TASK": "1", "GPUS_PER_NODE": "null"}
HELD = "+hydra.launcher.additional_parameters.hold=true"
ALREADY_DONE = 229  # ESLURM_ALREADY_DONE, as an exit code


class Command:
    """A command that runs; what it says can be read meanwhile."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], out: Path):
        self.out = out
        with open(out, "w") as file:
            own = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(words, cwd=folder, env=environment, **own)

    @property
    def said(self) -> str:
        return self.out.read_text()

    def wait_until(self, true: Callable[[], object]) -> None:
        """No longer than the command runs."""
        wait_until(lambda: true() or self.process.poll() is not None)
        assert true(), self.said

    def has_said(self, text: str) -> None:
        """Wait until it has."""
        self.wait_until(lambda: text in self.said)

    def finish(self) -> tuple[int, str]:
        code = self.process.wait(timeout=PATIENCE)
        return code, self.said


class Shell:
    def __init__(self, folder: Path, variables: dict[str, str]):
        self.folder, self.commands = folder, []
        self.environment = variables | {f"NSR_SLURM_{name}": value for name, value in SMALL_JOBS.items()}
        self.environment |= {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}

    def start(self, line: str, **variables: str) -> Command:
        """``nsr`` with a command line."""
        words = [sys.executable, "-m", "nsr_cli", *line.split()]
        out = self.folder / f"{len(self.commands)}.out"
        self.commands.append(Command(words, self.folder, self.environment | variables, out))
        return self.commands[-1]

    def run(self, line: str, **variables: str) -> tuple[int, str]:
        return self.start(line, **variables).finish()

    def slurm(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, cwd=self.folder, text=True, stdout=subprocess.PIPE)
        late = words[0] == "scancel" and done.returncode == ALREADY_DONE  # it was sent twice
        if not late:
            done.check_returncode()
        return done.stdout.strip()

    def queue(self) -> dict[str, str]:
        """The state of each job in the queue."""
        return dict(line.split() for line in self.slurm("squeue", "-h", "-r", "-o", "%i %T").splitlines())

    def hasten(self, job: str) -> None:
        mini_slurm.hasten(job, self.environment)

    def close(self) -> None:
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
                command.process.wait()
        self.slurm("scancel", "--me")
        wait_until(lambda: not self.queue())


def submitted(said: str) -> str:
    """The id of the one array, or job, that a command has submitted."""
    (job,) = re.findall(r"^submitted \d+ jobs? as (\d+): ", said, re.MULTILINE)
    return job


def sweeps(results: Path) -> list[Sweep]:
    """In the order in which they were submitted."""
    paths = sorted((results / "sweeps").glob("*/sweep.json"), key=lambda path: path.stat().st_mtime_ns)
    return [read_sweep(path.parent) for path in paths]


def states(sweep: Sweep) -> dict[int, str]:
    """The word that each job says of itself."""
    return {index: state["state"] for index, state in sweep.states().items()}


def records(results: Path) -> dict[int, dict]:
    """By the seeds, of which there is one each."""
    found = [json.loads(path.read_text()) for path in (results / "records/smoke").glob("*.json")]
    by_seed = {record["spec"]["training"]["seed"]: record for record in found}
    assert len(by_seed) == len(found)
    return by_seed


def trained(results: Path) -> dict[int, Path]:
    """The folders of trainings by their seeds, of which there is one each."""
    folders = [path.parent for path in (results / "runs").glob("*/spec.json")]
    by_seed = {json.loads((f / "spec.json").read_text())["training"]["seed"]: f for f in folders}
    assert len(by_seed) == len(folders)
    return by_seed


def stats(results: Path, seed: int = 0) -> list[dict]:
    """The lines of a run's stats.jsonl, each step once."""
    path = trained(results).get(seed, results) / "stats.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    return lines


def weights(results: Path) -> dict[int, dict[str, torch.Tensor]]:
    """By the seeds: a network that is slower is another run, and must end in the same weights."""
    return {seed: torch.load(f / "weights.pt", weights_only=True)["model"] for seed, f in trained(results).items()}


def assert_same_bits(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for run, tensors in expected.items():
        assert found[run].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(found[run][name], tensor), (run, name)


def logs(results: Path) -> str:
    """What all jobs have printed."""
    return "".join(path.read_text() for path in sorted((results / "sweeps").glob("*/logs/*_log.out")))


def entries(folder: Path) -> list[str]:
    """What lies in a folder, but for what commands said."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".out"))
