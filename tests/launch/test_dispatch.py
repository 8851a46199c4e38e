"""What cells make of the end of their job, and which jobs of other sweeps they wait for."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from samples import bicubic

from nsr_cli.data.catalog import image_paths
from nsr_cli.launch.cells import Cell, Watched
from nsr_cli.launch.dispatch import Dispatcher
from nsr_cli.launch.local import OnThisMachine
from nsr_cli.launch.sweep import Job, create_sweep, read_sweep
from nsr_cli.runs.record import Record, Score, write_record
from nsr_cli.runs.run import Run


@pytest.fixture
def asked(tmp_path) -> Run:
    return bicubic("embedded_val", results=str(tmp_path / "results"), data=str(tmp_path), rescore=True)


def measure(run: Run) -> None:
    """Write a record of a run."""
    (name,) = run.request.benchmarks
    images = {path.name: {"psnr": 30.0, "ssim": 0.9} for path in image_paths(name, run.data)}
    scores = {c.name: Score(c, {"psnr": 30.0, "ssim": 0.9}, images) for c in run.conventions(name)}
    signature, data = run.spec.signature, run.data_name(name)
    write_record(run.record(name), Record(run.name, signature, run.spec.signed, data, scores, {}))


def ended(runs: list[Run], state: dict | None, results: Path) -> list[Cell]:
    """The cells of a job that ended with a state."""
    sweep = create_sweep(results, "nsr eval", "local", [Job(0, runs[0].name, ["a", "b"], [])])
    cells = [Cell("eval", f"benchmark {number}", run) for number, run in enumerate(runs)]
    Dispatcher().note_end(Watched(sweep, sweep.jobs[0], cells), state, "killed by SIGKILL")
    return cells


FAILURE = {"error": "out of memory", "code": 1, "trace": ""}


def test_a_cell_that_was_scored_anew_is_done_although_another_of_its_job_failed(asked, tmp_path):
    other = replace(asked, spec=replace(asked.spec, tile=64))
    for run in (asked, other):
        measure(run)  # the other's is of before
    done, failed = ended([asked, other], {"state": "failed", "rank": 0, "failures": {"1": FAILURE}}, tmp_path)
    assert done.finished and done.failure is None and done.psnr == 30
    assert not failed.finished and str(failed.failure).startswith("out of memory; ")


def test_no_cell_of_a_killed_job_is_taken_to_be_scored_anew(asked, tmp_path):
    measure(asked)
    (cell,) = ended([asked], None, tmp_path)
    assert not cell.finished and "killed by SIGKILL" in str(cell.failure)


def test_a_job_that_could_say_nothing_for_a_full_disk(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (10**9, 10**9, 0))
    (cell,) = ended([asked], None, tmp_path)
    assert str(cell.failure) == f"it never began; killed by SIGKILL; the disk of {tmp_path} is full"


@pytest.mark.parametrize(("planned", "asked_now", "expected"), [
    ([[]], ["ssim8"], False), ([["ssim8"]], ["ssim8"], True), ([["ssim8"]], [], True),
    ([["ssim8"], []], ["ssim8"], False),  # of its two cells, one measures it
])  # fmt: skip
def test_a_job_makes_a_cell_only_if_it_measures_its_metrics(asked, tmp_path, planned, asked_now, expected):
    run, results = asked.with_request(rescore=False), tmp_path / "results"
    group = [Cell("eval", "", run.with_request(metrics=metrics)) for metrics in planned]
    (watched,), _ = OnThisMachine().create_jobs("nsr eval", [group], results)
    (job,) = read_sweep(watched.sweep.folder).jobs
    assert Cell("eval", "", run.with_request(metrics=asked_now)).is_made_by(job, results) == expected


def test_a_sweep_of_before_metrics_were_listed_is_read(tmp_path):
    sweep = create_sweep(tmp_path, "nsr eval", "slurm", [Job(0, "run0", ["a"], ["records/smoke/a.json"])])
    content = json.loads((sweep.folder / "sweep.json").read_text())
    del content["jobs"][0]["metrics"]
    (sweep.folder / "sweep.json").write_text(json.dumps(content))
    assert read_sweep(sweep.folder) == sweep
