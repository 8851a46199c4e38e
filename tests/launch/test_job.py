"""What a job says of itself, where its end is not one that the tests of sweeps bring about."""

import json
import signal

import pytest

from nsr_cli.engine.interrupts import TIME_IS_UP
from nsr_cli.launch import job
from nsr_cli.launch.sweep import Job, begin


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a job of two cells, with what the verb is to do; the exit code, and the job's last word."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, TIME_IS_UP)}
    planned = Job(0, "wdsr-0", ["tau=1", "tau=1 benchmarks=[set5]"], [])
    sweep = begin(tmp_path / "results", "nsr train", "slurm", [planned])
    monkeypatch.setenv(job.SUBMITTED_CODE, "")  # and is taken back, which the job would not do
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def call(do) -> tuple[int, dict]:
        monkeypatch.setattr(job, "do", do)
        with pytest.raises(SystemExit) as ended:
            job.run(job.described(sweep, planned, [("train", {"cell": 0}), ("train", {"cell": 1})]))
        return ended.value.code, json.loads((sweep.folder / "states/0.json").read_text())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def no_requeue(tmp_path, monkeypatch):
    """An scontrol that refuses."""
    command = tmp_path / "bin/scontrol"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'Job is not requeuable' >&2; exit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")


def test_out_of_time_where_slurm_does_not_requeue(run, no_requeue, tmp_path):
    def do(verb: str, config: dict) -> None:
        if config["cell"] == 1:
            (tmp_path / "results/runs/wdsr-0").mkdir(parents=True)
            (tmp_path / "results/runs/wdsr-0/checkpoint-5.pt").touch()
            raise SystemExit(128 + TIME_IS_UP)

    code, said = run(do)
    assert (code, said["state"]) == (1, "failed")
    assert said["error"] == "Slurm does not requeue it: Job is not requeuable"
    assert {number: told["error"] for number, told in said["failures"].items()} == {"1": said["error"]}


def test_out_of_time_before_anything_is_saved(run, no_requeue):
    def do(verb: str, config: dict) -> None:
        raise SystemExit(128 + TIME_IS_UP)

    code, said = run(do)
    assert code == 1 and said["error"].startswith("the time limit came before anything was saved; expected a larger ")


def test_a_program_that_ends_itself_in_one_cell_is_the_failure_of_that_cell(run):
    def do(verb: str, config: dict) -> None:
        raise SystemExit(5) if config["cell"] else RuntimeError("no luck")

    code, said = run(do)
    assert code == 1 and list(said["failures"]) == ["0", "1"] and said["failures"]["0"]["error"].endswith("no luck")
