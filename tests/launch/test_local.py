"""hydra/launcher=local: several runs at once on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsr_cli.errors import UserError
from nsr_cli.launch import local
from nsr_cli.launch.sweep import Job, begin

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = "blocks=1 units=4 width=1 batch=2 threads=1"


@pytest.fixture
def start(tmp_path):
    """Start a command of nsr in a folder of its own."""

    def run(line: str) -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NSR_")}
        environment |= {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "nsr_cli", *line.split()]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    return run


@pytest.fixture
def nsr(start):
    """Run one to its end: (exit code, what it printed)."""

    def run(line: str) -> tuple[int, str]:
        process = start(line)
        out = process.communicate(timeout=300)[0]
        return process.returncode, out

    return run


def states(folder: Path) -> list[str]:
    return sorted(json.loads(path.read_text())["state"] for path in folder.glob("results/sweeps/*/states/*.json"))


def until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_each_run_once_and_repeating_makes_only_what_is_missing(nsr, tmp_path):
    sweep = f"ablate -m steps=6 {TINY} hydra/launcher=local hydra.launcher.jobs=2"
    code, out = nsr(f"{sweep} sparsity=none,softmax tau=1,2")
    assert code == 0 and "3 jobs, 2 at once" in out, out  # without sparsity, every tau is the same run
    assert "sparsity=none tau=1: embedded_val rgb: " in out and "sparsity=none tau=2: embedded_val rgb: " in out
    assert states(tmp_path) == ["done"] * 3 and len(list(tmp_path.glob("results/records/smoke/*.json"))) == 3
    code, out = nsr(f"{sweep} sparsity=softmax tau=1,2,3")
    assert code == 0 and "2 of 3 are done already" in out and "1 job, 1 at once" in out, out
    code, out = nsr(f"{sweep} sparsity=softmax tau=1,2,3")
    assert (code, out) == (0, "3 of 3 are done already\n")


def test_what_scores_the_same_weights_is_one_job(nsr, tmp_path):
    line = f"ablate -m sparsity=softmax inference=soft,hard steps=6 {TINY} hydra/launcher=local"
    code, out = nsr(line)
    assert code == 0 and "1 job, 1 at once" in out, out
    assert len(list(tmp_path.glob("results/runs/*/weights.pt"))) == 1
    assert len(list(tmp_path.glob("results/records/smoke/*.json"))) == 2


def test_failures_are_named_and_do_not_stop_the_others(nsr, tmp_path):
    code, out = nsr(f"ablate -m tau=0,1 sparsity=softmax steps=6 device=cpu,cuda:7 {TINY} hydra/launcher=local")
    assert code == 2 and "nsr ablate tau=0 device=cpu: tau=0: expected a number above 0\n" in out, out
    code, out = nsr(f"ablate -m seed=0,1 learning_rate=1e30 steps=60 {TINY} hydra/launcher=local hydra.launcher.jobs=1")
    assert code == 1 and out.count("diverged") + out.count("the loss is ") >= 2, out
    assert "nsr ablate: 2 of 2 jobs failed; the others are done" in out
    again = nsr(f"ablate -m seed=0,1 learning_rate=1e30 steps=60 {TINY} hydra/launcher=local")
    assert again[0] == 1 and "nsr ablate seed=0: diverged: " in again[1] and "at once" not in again[1]


def test_a_killed_job_is_reported_and_the_same_command_finishes_it(nsr, start, tmp_path):
    line = f"ablate -m seed=0,1 sparsity=softmax steps=400 checkpoint_minutes=0.001 {TINY} hydra/launcher=local"
    process = start(line + " hydra.launcher.jobs=1")
    until(lambda: list(tmp_path.glob("results/runs/*/checkpoint-*.pt")), process)
    (state,) = tmp_path.glob("results/sweeps/*/states/0.json")
    os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
    out = process.communicate(timeout=300)[0]
    assert process.returncode == 1 and "nsr ablate seed=0: killed by SIGKILL; " in out, out
    assert "nsr ablate: 1 of 2 jobs failed; the others are done" in out
    code, out = nsr(line)
    assert code == 0 and "1 of 2 are done already" in out, out
    assert sum("resuming after step" in log.read_text() for log in tmp_path.glob("results/sweeps/*/logs/0.log")) == 1
    assert len(list(tmp_path.glob("results/records/smoke/*.json"))) == 2


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_the_sweep_stops_its_jobs_which_save(nsr, start, tmp_path, number, expected):
    line = f"ablate -m seed=0,1 sparsity=softmax steps=3000 {TINY} hydra/launcher=local hydra.launcher.jobs=1"
    process = start(line)
    until(lambda: any(path.stat().st_size for path in tmp_path.glob("results/runs/*/stats.jsonl")), process)
    process.send_signal(number)
    out = process.communicate(timeout=300)[0]
    assert process.returncode == expected, out
    assert states(tmp_path) == ["stopped"]  # the one that ran; the other has not begun
    (log,) = tmp_path.glob("results/sweeps/*/logs/0.log")
    assert "stopped by SIGTERM after step" in log.read_text() and "which is saved" in log.read_text()
    assert len(list(tmp_path.glob("results/runs/*/checkpoint-*.pt"))) == 1


def test_each_job_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    cards = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": card} for card in ("2", "GPU-5")]
    assert local.slots(None, 1) == cards and local.slots(1, 1) == [cards[0] | {"OMP_NUM_THREADS": "8"}]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in local.slots(None, 2)] == ["2", "GPU-5", "2", "GPU-5"]
    with pytest.raises(UserError, match="jobs=3: expected at most 2, 1 for each GPU"):
        local.slots(3, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (
        local.slots(None, 1) == [{"OMP_NUM_THREADS": "1"}] * 8 and local.slots(4, 1) == [{"OMP_NUM_THREADS": "2"}] * 4
    )


def test_a_place_is_never_shared(tmp_path, monkeypatch):
    """Twenty jobs in three places: a stand-in for Python that notes its place, and whether it was alone there."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        "#!/bin/sh\ncat > /dev/null\n"
        f"mkdir {tmp_path}/at-$PLACE || exit 9\nsleep 0.1\nrmdir {tmp_path}/at-$PLACE\nexit $PLACE\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    sweep = begin(tmp_path, "test", "local", [Job(i, f"run{i}", [f"tau={i}"], []) for i in range(20)])
    ended = list(local.run_all(sweep, [""] * 20, [{"PLACE": str(place)} for place in range(3)]))
    assert sorted(job.index for job, _ in ended) == list(range(20))
    assert {how for _, how in ended} == {f"ended with exit code {place}" for place in range(3)}
