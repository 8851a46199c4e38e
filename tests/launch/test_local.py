"""hydra/launcher=local: several runs at once on this machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from samples import GONE
from shell import Command, states, sweeps
from terminal import environment

from nsr_cli.errors import UserError
from nsr_cli.launch import local
from nsr_cli.launch.job import job_text
from nsr_cli.launch.sweep import Job, create_sweep

TINY = "blocks=1 units=4 width=1 batch=2 threads=1 hydra/launcher=local"


@pytest.fixture
def start(tmp_path):
    """Start a command of nsr in a folder of its own."""

    def run(line: str) -> Command:
        return Command([sys.executable, "-m", "nsr_cli", *line.split()], tmp_path, environment(), tmp_path / "out")

    return run


def records(folder: Path) -> list[Path]:
    return list(folder.glob("results/records/smoke/*.json"))


def test_each_run_once_and_repeating_makes_only_what_is_missing(nsr, tmp_path):
    line = f"ablate -m steps=6 {TINY} hydra.launcher.jobs=2"
    made = nsr(f"{line} sparsity=softmax seed=0,1 tau=1,1.0 inference=soft,hard")
    assert made.code == 0 and "2 jobs, 2 at once" in made.out, made  # one for each training
    for words in ("seed=0 tau=1 inference=soft", "seed=1 tau=1.0 inference=hard"):
        assert f"\n{words}: embedded_val rgb: " in made.out
    (sweep,) = sweeps(tmp_path / "results")
    assert states(sweep) == dict.fromkeys(range(2), "done")
    assert len(list(tmp_path.glob("results/runs/*/weights.pt"))) == 2 and len(records(tmp_path)) == 4
    for done, jobs in (2, "1 job, 1 at once"), (4, None):  # without sparsity, every tau is the same run
        made = nsr(f"{line} sparsity=none,softmax seed=0 tau=1,1.0")
        assert made.code == 0 and f"{done} of 4 are done already\n" in made.out, made
        assert jobs in made.out if jobs else made.out == "4 of 4 are done already\n"
    assert len(records(tmp_path)) == 5


def test_failures_are_named_and_do_not_stop_the_others(nsr, tmp_path):
    line = f"ablate -m learning_rate=1e30,0.001 tau=0,1 device=cpu,cuda:7 sparsity=softmax steps=60 {TINY}"
    first, again = nsr(line), nsr(line)
    for made in first, again:
        assert made.code == 1 and made.err.endswith("nsr ablate: 6 of 8 jobs failed; the others are done\n"), made
        for rate in ("1e+30", "0.001"):
            assert made.err.count(f"nsr ablate learning_rate={rate} tau=0 device=cpu: tau=0: expected a number ") == 1
        assert made.err.count(": tau=0: expected a number above 0\n") == 4
        assert made.err.count("\nnsr ablate learning_rate=1e+30 tau=1 device=cpu: diverged: the loss is ") == 1
        assert "Traceback" not in made.err
    assert "2 jobs, " in first.out and "at once" not in again.out  # once is enough
    assert "2 of 8 are done already\n" in again.out and len(records(tmp_path)) == 2


def test_a_killed_job_is_reported_and_the_same_command_finishes_it(start, nsr, tmp_path):
    line = f"ablate -m seed=0,1 sparsity=softmax steps=300 checkpoint_minutes=0.001 {TINY}"
    command = start(f"{line} hydra.launcher.jobs=1")
    command.wait_until(lambda: list(tmp_path.glob("results/runs/*/checkpoint-*.pt")))
    (state,) = tmp_path.glob("results/sweeps/*/states/0.json")
    os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
    code, out = command.finish()
    assert code == 1 and "nsr ablate seed=0: killed by SIGKILL; " in out, out
    assert "nsr ablate: 1 of 2 jobs failed; the others are done" in out
    made = nsr(line)
    assert made.code == 0 and "1 of 2 are done already" in made.out, made
    assert sum("resuming after step" in log.read_text() for log in tmp_path.glob("results/sweeps/*/logs/0.log")) == 1
    assert len(records(tmp_path)) == 2


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_the_sweep_stops_its_jobs_which_save(start, tmp_path, number, expected):
    line = f"ablate -m seed=0,1 sparsity=softmax steps=3000 {TINY} hydra.launcher.jobs=1"
    command = start(line)
    command.wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("results/runs/*/stats.jsonl")))
    command.process.send_signal(number)
    code, out = command.finish()
    assert code == expected, out
    assert out.endswith("; repeat the command to go on\n")
    (sweep,) = sweeps(tmp_path / "results")
    assert states(sweep) == {0: "stopped"}  # the one that ran; the other has not begun
    (log,) = tmp_path.glob("results/sweeps/*/logs/0.log")
    assert "stopped by SIGTERM after step" in log.read_text() and "which is saved" in log.read_text()
    assert len(list(tmp_path.glob("results/runs/*/checkpoint-*.pt"))) == 1


def test_a_job_whose_sweep_is_killed_as_it_starts_does_not_run(tmp_path):
    sweep = create_sweep(tmp_path, "test", "local", [Job(0, "run0", ["tau=0"], [])])
    (tmp_path / "job").write_text(job_text(sweep, sweep.jobs[0], []))
    command = [sys.executable, "-m", "nsr_cli.launch.job", str(GONE.pid)]
    with open(tmp_path / "job") as job:
        assert subprocess.run(command, stdin=job, env=environment(), cwd=tmp_path).returncode == 143
    assert states(sweep) == {}


def test_each_job_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    cards = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": card} for card in ("2", "GPU-5")]
    assert local.slots(None, 1) == cards and local.slots(1, 1) == [cards[0] | {"OMP_NUM_THREADS": "8"}]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in local.slots(None, 2)] == ["2", "GPU-5", "2", "GPU-5"]
    with pytest.raises(UserError, match="jobs=3: expected at most 2, 1 for each GPU"):
        local.slots(3, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.slots(None, 1, wanted=2) == [{"OMP_NUM_THREADS": "4"}] * 2
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
    sweep = create_sweep(tmp_path, "test", "local", [Job(i, f"run{i}", [f"tau={i}"], []) for i in range(20)])
    ended = list(local.run_jobs(sweep, [""] * 20, [{"PLACE": str(place)} for place in range(3)]))
    assert sorted(job.index for job, _ in ended) == list(range(20))
    assert {how for _, how in ended} == {f"ended with exit code {place}" for place in range(3)}
