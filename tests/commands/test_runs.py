"""Runs from the command line: trained, scored, recorded, skipped, resumed, shared between processes."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
import torch
from kept import only_record, records, weights
from terminal import finish, start

from nsr_cli.engine.conventions import Convention
from nsr_cli.runs import provenance
from nsr_cli.runs.record import read_record


def test_ablate_trains_scores_and_records(nsr, tmp_path, trained, tiny):
    (path,) = records(tmp_path)
    assert trained.benchmark == "embedded_val" and trained.trained["steps"] == 6
    (score,) = trained.scores.values()
    assert score.convention == Convention("rgb", "rgb", rounded=True, measured="rgb", border=8)
    assert set(score.images) == {"chelsea.png", "rocket.jpg"}
    assert score.means["psnr"] == pytest.approx(sum(i["psnr"] for i in score.images.values()) / 2)
    assert trained.tiling == {"side": 32, "margin": 4, "overlap": 8} and set(trained.gates) == {
        "body.0.conv1", "body.0.conv2",
    }  # fmt: skip
    for written in (path, *(tmp_path / "results/runs").glob("*/spec.json")):
        assert "/tmp" not in written.read_text() and str(tmp_path) not in written.read_text()  # no path of a machine
    assert f"{score.means['psnr']:.4f} dB" in nsr(f"ablate {tiny}").out


def test_a_finished_run_is_skipped_and_a_deleted_record_is_scored_again(nsr, tmp_path, trained, tiny):
    (path,) = records(tmp_path)
    before = path.stat().st_mtime_ns
    for line in (f"ablate {tiny}", f"train sparsity=softmax {tiny}"):
        again = nsr(line)
        assert again.code == 0 and "training" not in again.out and path.stat().st_mtime_ns == before
        assert str(path) in again.out
    for line in (f"ablate {tiny}", f"eval model=wdsr sparsity=softmax {tiny}"):  # both find the weights
        path.unlink()
        redone = nsr(line)
        assert redone.code == 0 and "training" not in redone.out, redone.err
        assert only_record(tmp_path).scores == trained.scores


def test_dry_run_prints_the_cost_and_leaves_nothing(nsr, tmp_path):
    result = nsr("train model=wdsr blocks=16 units=64 width=1 sparsity=softmax cardinality=16 dry_run=true")
    assert result.code == 0, result.err
    assert "parameters      4,877,812\n" in result.out
    assert "MACs per pixel  1.189 M of the input" in result.out
    assert "groups: 4" in result.out and "run folder      " in result.out and "steps/s" in result.out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_tells_the_cost_where_images_are_missing(nsr):
    """Once it refused: nobody saw what protocol=paper costs without DIV2K."""
    result = nsr("train protocol=paper dry_run=true data=nothing")
    assert result.code == 2 and "`nsr data get div2k_train` fetches it" in result.err
    assert result.err.count("\n") == 1 and "MACs per pixel  1.185 M" in result.out and "time" not in result.out


def test_a_sweep_makes_one_run_for_each_cell(nsr, tmp_path, tiny):
    result = nsr(f"ablate -m sparsity=none,softmax seed=0,1 {tiny}")
    assert result.code == 0, result.err
    assert len({read_record(path).signature for path in records(tmp_path)}) == 4
    assert nsr("eval scale=2,3 -m model=bicubic").code == 0  # flags may stand anywhere
    bicubic = [read_record(path).scores["rgb"].means["psnr"] for path in records(tmp_path) if "bicubic" in path.name]
    assert len(bicubic) == 2 and max(bicubic) > 30 > min(bicubic)


@pytest.mark.parametrize("task", ["denoise", "dejpeg"])
def test_other_tasks_run_end_to_end(nsr, tmp_path, tiny, task):
    result = nsr(f"train task={task} sparsity=softmax {tiny}")
    assert result.code == 0, result.err
    (score,) = only_record(tmp_path).scores.values()
    assert score.convention.name == {"denoise": "grey", "dejpeg": "luma"}[task]
    assert ("ssim8" in score.means) == (task == "dejpeg")


def test_a_diverging_run_stops_with_a_line_and_is_recorded_as_that(nsr, tmp_path, tiny):
    result = nsr(f"ablate sparsity=none {tiny} learning_rate=1e30")
    assert result.code == 1
    assert result.err.startswith("nsr ablate: the loss is ") and "on patches of" in result.err
    assert result.err.count("\n") == 1
    (path,) = records(tmp_path)
    text = path.read_text()
    record = json.loads(text)
    assert record["scores"] == {} and record["diverged"] in result.err and str(tmp_path) not in text
    again = nsr(f"ablate sparsity=none {tiny} learning_rate=1e30")
    assert again.code == 1 and again.err == (
        f"nsr ablate: diverged: {record['diverged']}; it is recorded in {path}, and rescore=true tries once more\n"
    )
    assert "training" not in again.out and path.read_text() == text
    path.unlink()
    other = nsr(f"ablate sparsity=none {tiny} learning_rate=1e30")  # for another benchmark, say: it is known already
    assert other.code == 1 and "training" not in other.out and json.loads(path.read_text())["diverged"]
    assert nsr(f"ablate sparsity=none {tiny} learning_rate=1e30 rescore=true").out.startswith("protocol smoke")
    noted = tmp_path / "results/runs" / record["run"] / "diverged.txt"
    for damage in (b"", b"\xff the loss"):  # nothing is said of it: it is found out again; or an odd letter
        noted.write_bytes(damage)
        path.unlink()
        damaged = nsr(f"ablate sparsity=none {tiny} learning_rate=1e30")
        assert damaged.code == 1 and damaged.err.count("\n") == 1 and json.loads(path.read_text())["diverged"]
    (tmp_path / "results/runs" / record["run"] / "weights.pt").write_text("of a later training")
    later = nsr(f"ablate sparsity=none {tiny} learning_rate=1e30")  # its benchmarks are to be scored
    assert later.code == 1 and "weights.pt is damaged" in later.err and "diverged" not in later.err


def test_hard_inference_scores_the_weights_of_the_soft_run(nsr, tmp_path, trained, tiny):
    hard = nsr(f"ablate {tiny} inference=hard save_images=true")
    reverse = nsr(f"ablate {tiny} inference=hard results=reverse")  # what trains is always soft
    assert hard.code == reverse.code == 0, hard.err
    logs = [next((tmp_path / r / "runs").glob("*/stats.jsonl")).read_text() for r in ("results", "reverse")]
    assert len({json.loads(log)["psnr"] for log in logs}) == 1
    assert "training" not in hard.out and len(list((tmp_path / "results/runs").iterdir())) == 1
    (other,) = (r for r in map(read_record, records(tmp_path)) if r.signature != trained.signature)
    assert other.run == trained.run and other.spec == {**trained.spec, "inference": "hard"}
    assert other.scores["rgb"].means["psnr"] != trained.scores["rgb"].means["psnr"]
    assert other.cost["macs"] == trained.cost["macs"] and other.cost["overhead"] < trained.cost["overhead"]
    assert list((tmp_path / "results/runs").glob("*/images/embedded_val-hard/*.png"))


def test_other_tiles_score_the_same_weights(nsr, tmp_path, trained, tiny):
    result = nsr(f"ablate {tiny} tile=48")
    assert result.code == 0 and "training" not in result.out, result.err
    (other,) = (r for r in map(read_record, records(tmp_path)) if r.signature != trained.signature)
    assert other.tiling == {"side": 48, "margin": 4, "overlap": 8} and other.run == trained.run
    assert other.scores["rgb"].means["psnr"] != trained.scores["rgb"].means["psnr"]


@pytest.mark.parametrize("sparsity", ["none", "se", "softmax groups=1"])
def test_hard_inference_needs_groups_to_choose_from(nsr, tiny, sparsity):
    result = nsr(f"ablate sparsity={sparsity} {tiny} inference=hard")
    assert result.code == 2
    assert result.err.startswith(f"nsr ablate: inference=hard: sparsity={sparsity.split()[0]} has one group")


def test_a_record_without_weights_is_enough(nsr, tmp_path, trained, tiny):
    """Records are committed and runs are not: a fresh clone must not train again, but a picture needs the network."""
    (path,) = records(tmp_path)
    before, text = weights(tmp_path), path.read_text()
    shutil.rmtree(tmp_path / "results/runs")
    again = nsr(f"ablate {tiny}")
    assert again.code == 0 and "training" not in again.out and "dB" in again.out
    assert not (tmp_path / "results/runs").exists()
    assert "training" in nsr(f"ablate {tiny} weights=true").out
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path).items())
    assert path.read_text() == text
    assert "training" not in nsr(f"ablate {tiny} weights=true").out
    shutil.rmtree(tmp_path / "results/runs")
    assert "training" in nsr(f"ablate {tiny} rescore=true").out


def test_damaged_or_foreign_weights_are_refused(nsr, tmp_path, trained, tiny):
    (path,) = (tmp_path / "results/runs").glob("*/weights.pt")
    original = path.read_bytes()
    state = torch.load(path, weights_only=True)
    torch.save({**state, "signature": "another"}, tmp_path / "foreign.pt")
    smaller = {name: tensor[:1] for name, tensor in state["model"].items()}
    torch.save({**state, "model": smaller}, tmp_path / "smaller.pt")
    flipped = bytearray(original)
    flipped[len(original) // 2] ^= 1
    records(tmp_path)[0].unlink()
    for content, said in (
        ((tmp_path / "foreign.pt").read_bytes(), "another run's weights"),
        (
            (tmp_path / "smaller.pt").read_bytes(),
            "does not fit the network: its body.0.conv1.bias is [1], the network's is [16]",
        ),
        (bytes(flipped), "is damaged"),
        (b"", "is damaged"),
    ):
        path.write_bytes(content)
        result = nsr(f"ablate {tiny}")
        assert result.code == 1 and result.err.count("\n") == 1, result.err
        assert f"{path} " in result.err and said in result.err and "delete it" in result.err
        assert path.read_bytes() == content and not records(tmp_path)


def test_scores_of_identical_images_are_valid_json(nsr, tmp_path):
    (tmp_path / "flat").mkdir()
    cv2.imwrite(str(tmp_path / "flat/a.png"), np.full((64, 64, 3), 128, np.uint8))
    result = nsr("eval benchmarks=[./flat]")
    assert result.code == 0 and "inf dB" in result.out
    (path,) = records(tmp_path)
    assert "Infinity" not in path.read_text() and json.loads(path.read_text())["scores"]["rgb"]["psnr"] is None
    assert only_record(tmp_path).scores["rgb"].means["psnr"] == math.inf


def test_without_git_a_record_says_so(nsr, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance.commit.cache_clear()  # asks again
    assert nsr("eval").code == 0
    assert only_record(tmp_path).made["commit"] is None
    provenance.commit.cache_clear()


def test_a_folder_whose_images_change_is_another_benchmark(nsr, tmp_path):
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(0)
    for count in (1, 2):
        cv2.imwrite(str(tmp_path / "a/a.bmp"), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))  # the same size
        assert nsr("eval benchmarks=[./a]").code == 0
        assert len(records(tmp_path)) == count


def test_compiling_without_a_compiler_is_said(nsr, monkeypatch, tiny):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = nsr(f"ablate {tiny} compile=true")
    assert result.code == 2 and result.err.startswith("nsr ablate: compile=true: needs a C++ compiler")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, tiny):
    code, out = finish(start(tmp_path, f"ablate {tiny} results=/proc/nothing"))
    assert code == 2 and out.startswith("nsr ablate: results=/proc/nothing: cannot be written to (")
    assert out.count("\n") == 1, out


@pytest.mark.parametrize(
    ("prepare", "line", "message"),
    [
        (lambda p: (p / "results/records").mkdir(parents=True) or (p / "results/records/smoke").touch(), "",
         "results=results/records/smoke: cannot be written to (Not a directory: "),
        (lambda p: (p / "loop").symlink_to("loop"), "results=loop", "results=loop: cannot be written to (Too many "),
        (lambda p: (p / "to").symlink_to("nowhere"), "results=to", "results=to: cannot be written to (No such file "),
        (lambda p: (p / "photographs").rename(p / ("L" * 230)), f"benchmarks=[./{'L' * 230}]",
         f"benchmarks: the name {'L' * 230}"),
    ],
)  # fmt: skip
def test_records_that_could_not_be_written_are_refused_before_a_training(
    nsr, tmp_path, tiny, photographs, prepare, line, message
):
    prepare(tmp_path)
    result = nsr(f"ablate {tiny} {line}")
    assert result.code == 2 and result.err.startswith(f"nsr ablate: {message}"), result.err
    assert result.err.count("\n") == 1 and not list(tmp_path.rglob("weights.pt"))


def test_benchmark_images_that_cannot_be_scored_are_found_before_a_training(nsr, tmp_path, tiny, photographs):
    (tmp_path / "results").mkdir()
    least = "28x28"  # x2: 11 pixels for SSIM and twice a border of 8, in pairs
    for size, said in ((27, f"27x27 is too small to be scored; expected at least {least}"), (0, "the file is empty")):
        cv2.imwrite(str(photographs / "c.png"), np.zeros((size or 1, size or 1, 3), np.uint8))
        if not size:
            (photographs / "c.png").write_bytes(b"")
        result = nsr(f"ablate {tiny} benchmarks=[embedded_val,./photographs]")
        assert result.code == 2 and result.err.count("\n") == 1 and said in result.err and "c.png" in result.err
        assert "training" not in result.out and not list(tmp_path.rglob("weights.pt"))
    cv2.imwrite(str(photographs / "c.png"), np.zeros((28, 28, 3), np.uint8))
    assert nsr("eval benchmarks=[./photographs]").code == 0


def test_a_network_can_be_compiled_on_a_cpu(nsr, tmp_path, tiny):
    if not shutil.which("g++"):
        pytest.skip("no g++ on this machine")
    plain = nsr(f"ablate sparsity=softmax {tiny} results=plain")
    compiled = nsr(f"ablate sparsity=softmax {tiny} results=compiled compile=true")
    assert plain.code == compiled.code == 0, compiled.err
    losses = [
        json.loads(next((tmp_path / r / "runs").glob("*/stats.jsonl")).read_text())["loss"]
        for r in ("plain", "compiled")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
