"""What a job says of itself, where its end is not one that the tests of sweeps bring about."""

import errno
import json
import signal
from unittest.mock import Mock

import pytest
from samples import bicubic

from nsr_cli.engine.interrupts import TIME_IS_UP
from nsr_cli.errors import UserError
from nsr_cli.launch import job, sweep
from nsr_cli.launch.sweep import Job, create_sweep
from nsr_cli.runs.run import Run

RUNS = [bicubic("set5"), bicubic("set14", metrics=["ssim8"], rescore=True)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a job of two runs, with what is done for each; the exit code, and the job's last word."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, TIME_IS_UP)}
    planned = Job(0, "bicubic-0", ["tau=1", "tau=1 benchmarks=[set14]"], [])
    sweep = create_sweep(tmp_path / "results", "nsr eval", "slurm", [planned])
    monkeypatch.setenv(job.SUBMITTED_CODE, "")  # and is taken back, which the job would not do
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def call(do) -> tuple[int, dict]:
        monkeypatch.setattr(job, "do_run", do)
        code = 0
        try:
            job.run(job.job_text(sweep, planned, RUNS))
        except SystemExit as ended:
            code = ended.code
        return code, json.loads((sweep.folder / "states/0.json").read_text())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def is_second(asked: Run) -> bool:
    return asked.request.benchmarks == ["set14"]


def test_a_job_does_the_runs_that_it_was_described_with(run):
    done = []
    code, said = run(done.append)
    assert (code, said["state"]) == (0, "done") and done == RUNS
    assert {asked.spec.signature for asked in done} == {RUNS[0].spec.signature}


def test_a_job_that_can_say_nothing_for_a_full_disk_ends_in_one_line(tmp_path, monkeypatch, capsys):
    planned = Job(0, "bicubic-0", ["tau=1"], [])
    monkeypatch.setenv(job.SUBMITTED_CODE, "")
    text = job.job_text(create_sweep(tmp_path / "results", "nsr eval", "local", [planned]), planned, RUNS)
    full = OSError(errno.ENOSPC, "No space left on device", "states/0.json")
    monkeypatch.setattr(job, "write_json", Mock(side_effect=full))
    with pytest.raises(SystemExit) as ended:
        job.run(text)
    expected = "No space left on device: states/0.json; what was finished is kept\n"
    assert (ended.value.code, capsys.readouterr().err) == (1, expected)


def test_a_sweep_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "write_json", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError):
        create_sweep(tmp_path, "nsr eval", "local", [])
    assert list((tmp_path / "sweeps").iterdir()) == []


@pytest.fixture
def no_requeue(tmp_path, monkeypatch):
    """An scontrol that refuses."""
    command = tmp_path / "bin/scontrol"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'Job is not requeuable' >&2; exit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")


def test_out_of_time_where_slurm_does_not_requeue(run, no_requeue, tmp_path):
    def do(asked: Run) -> None:
        if is_second(asked):
            (tmp_path / "results/runs/bicubic-0").mkdir(parents=True)
            (tmp_path / "results/runs/bicubic-0/checkpoint-5.pt").touch()
            raise SystemExit(128 + TIME_IS_UP)

    code, said = run(do)
    assert (code, said["state"]) == (1, "failed")
    assert said["error"] == "Slurm does not requeue it: Job is not requeuable"
    assert {number: told["error"] for number, told in said["failures"].items()} == {"1": said["error"]}


def test_out_of_time_before_anything_is_saved(run, no_requeue):
    def do(asked: Run) -> None:
        raise SystemExit(128 + TIME_IS_UP)

    code, said = run(do)
    assert code == 1 and said["error"].startswith("the time limit came before anything was saved; expected a larger ")


def test_runs_that_were_not_tried_share_the_failure_that_ended_the_job(run):
    def do(asked: Run) -> None:
        raise SystemExit(5)

    code, said = run(do)
    assert code == 1 and said["failures"] == dict.fromkeys("01", said["failures"]["0"])


def test_a_program_that_ends_itself_in_one_run_is_the_failure_of_that_run(run):
    def do(asked: Run) -> None:
        raise SystemExit(5) if is_second(asked) else RuntimeError("no luck")

    code, said = run(do)
    assert code == 1 and list(said["failures"]) == ["0", "1"] and said["failures"]["0"]["error"].endswith("no luck")
    assert said["failures"]["1"]["error"] == "SystemExit: 5"


def test_a_run_of_another_version_is_the_failure_of_that_run(run, monkeypatch):
    monkeypatch.setattr(Run, "to_json", lambda self: {"spec": self.spec.signed, "request": {"of_old": 1}})
    code, said = run(lambda asked: None)
    assert code == 1 and "of_old" in said["error"] and list(said["failures"]) == ["0", "1"]


def test_an_error_that_names_a_file_whose_name_is_no_text_is_told(run):
    def do(asked: Run) -> None:
        raise UserError("cannot read \udcff.png")

    code, said = run(do)
    assert (code, said["error"]) == (2, "cannot read \\udcff.png")
