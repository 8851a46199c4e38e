"""The throw-away Slurm behaves as a cluster, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import mini_slurm
import pytest
from terminal import wait_until

OWNER = """
import sys, mini_slurm
with mini_slurm.cluster() as variables:
    print(variables["SLURM_CONF"], flush=True)
    sys.stdin.read()
"""
GREEDY = "import time; hoard = bytes([1]) * (300 << 20); time.sleep(60)"  # ones: untouched zeros take no memory


@pytest.fixture
def call(slurm, tmp_path):
    def run(*command: str) -> str:
        return subprocess.check_output(command, env=slurm, cwd=tmp_path, text=True).strip()

    return run


@pytest.fixture
def submit(call):
    """Submit lines of shell, get the job's id; what still runs after the test is cancelled."""
    jobs = []

    def run(script: str, *options: str) -> str:
        jobs.append(call("sbatch", "--parsable", "--output=out", *options, f"--wrap={script}"))
        return jobs[-1]

    yield run
    call("scancel", *jobs)


@pytest.fixture
def field(call):
    """What Slurm knows about a job, one field of it."""

    def look(job: str, name: str) -> str:
        return dict(word.partition("=")[::2] for word in call("scontrol", "show", "job", "-o", job).split())[name]

    return look


@pytest.fixture
def completed(call, field):
    """Wait until a job and what it is made of have ended well."""

    def wait(job: str) -> None:
        wait_until(lambda: not call("squeue", "--noheader", f"--jobs={job}"))
        assert (field(job, "JobState"), field(job, "ExitCode")) == ("COMPLETED", "0:0")

    return wait


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_the_nodes_have_what_was_asked_for(call):
    nodes = ["n1 4 8000 gpu:2 idle", "n2 4 8000 gpu:2 idle"]
    sinfo = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %c %m %G %T"]
    wait_until(lambda: call(*sinfo).splitlines() == nodes)


def test_a_job_of_two_tasks_over_two_nodes(submit, completed, tmp_path):
    completed(submit("srun printenv SLURM_PROCID SLURMD_NODENAME", "--nodes=2", "--ntasks=2"))
    assert sorted(lines(tmp_path / "out")) == ["0", "1", "n1", "n2"]


def test_jobs_that_share_a_node_have_a_gpu_each(submit, completed, tmp_path):
    both = "until test -s gpu0 -a -s gpu1; do sleep 0.1; done"
    script = f"srun printenv CUDA_VISIBLE_DEVICES > gpu$SLURM_ARRAY_TASK_ID; {both}"
    completed(submit(script, "--array=0-1", "--nodelist=n1", "--gpus-per-node=1"))
    assert {lines(tmp_path / "gpu0")[0], lines(tmp_path / "gpu1")[0]} == {"0", "1"}


def test_an_array(submit, completed, tmp_path):
    completed(submit("srun printenv SLURM_ARRAY_TASK_ID", "--array=0-2", "--output=out%a"))
    assert [lines(tmp_path / f"out{i}") for i in range(3)] == [["0"], ["1"], ["2"]]


def test_a_job_above_its_memory_is_killed(submit, field, tmp_path):
    job = submit(f"srun {sys.executable} -c '{GREEDY}'", "--mem=100")
    wait_until(lambda: field(job, "JobState") == "FAILED")
    assert field(job, "ExitCode") == "137:0"
    assert "exceeded memory limit" in (tmp_path / "out").read_text()


RESTARTS = "printenv SLURM_RESTART_COUNT >> restarts || { touch started; srun sleep 60; }"


def test_a_requeued_job_starts_again(slurm, submit, call, completed, tmp_path):
    job = submit(RESTARTS)
    wait_until((tmp_path / "started").exists)
    call("scontrol", "requeue", job)
    mini_slurm.hasten(job, slurm)
    completed(job)
    assert lines(tmp_path / "restarts") == ["1"]


def test_a_job_makes_way_for_the_partition_above_and_comes_back(slurm, submit, completed, tmp_path):
    job = submit(RESTARTS, "--partition=main", "--nodes=2", "--exclusive")
    wait_until((tmp_path / "started").exists)
    completed(submit("srun touch high", "--partition=high", "--nodes=2", "--exclusive"))
    assert (tmp_path / "high").exists() and lines(tmp_path / "restarts") == []
    mini_slurm.hasten(job, slurm)
    completed(job)
    assert lines(tmp_path / "restarts") == ["1"]


def test_nothing_is_left_when_the_owner_is_killed(slurm, call, tmp_path):
    python, pipe = [sys.executable, "-c", OWNER], subprocess.PIPE
    with subprocess.Popen(python, cwd=Path(mini_slurm.__file__).parent, stdin=pipe, stdout=pipe, text=True) as owner:
        conf = Path(owner.stdout.readline().strip())
        stubborn = "trap : TERM; setsid sleep 60 & touch started; while :; do sleep 1; done"
        sbatch = ["sbatch", "--output=/dev/null", f"--wrap=srun bash -c '{stubborn}'"]
        subprocess.run(sbatch, env=slurm | {"SLURM_CONF": str(conf)}, cwd=tmp_path, check=True)
        wait_until((tmp_path / "started").exists)
        below = mini_slurm.descendants(owner.pid)
        owner.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    wait_until(lambda: not conf.parent.exists())
    assert call("sinfo", "--noheader", "--partition=main", "--format=%D") == "2"


@pytest.mark.usefixtures("slurm")
def test_a_start_that_fails_says_why_and_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path / "slurmd").write_text("#!/bin/sh\necho no such luck\n")
    (tmp_path / "slurmd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    before = mini_slurm.descendants(os.getpid())
    with pytest.raises(RuntimeError, match=r"(?s)Slurm did not start: n1 .*ended\n.*--- n1.out\nno such luck"):
        with mini_slurm.cluster():
            pass
    wait_until(lambda: mini_slurm.descendants(os.getpid()) <= before)
