"""Runs from the command line: trained, scored, recorded, skipped, resumed, shared between processes."""

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from terminal import finish, start

from nsr_cli.commands import work


def records(folder: Path, budget: str = "smoke") -> list[Path]:
    return sorted((folder / "results/records" / budget).glob("*.json"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "results/runs").glob("*/weights.pt")
    return torch.load(path, weights_only=True)["model"]


def test_ablate_trains_scores_and_records(nsr, tmp_path, tiny):
    result = nsr(f"ablate sparsity=softmax tau=1 {tiny}")
    assert result.code == 0, result.err
    (path,) = records(tmp_path)
    record = json.loads(path.read_text())
    assert str(path) in result.out
    assert record["benchmark"] == "embedded_val" and record["trained"]["steps"] == 6
    scores = record["scores"]["rgb"]
    assert scores["convention"] == {
        "name": "rgb", "given": "rgb", "rounded": True, "measured": "rgb", "border": 8, "ssim": ["gaussian"],
        "clipped": False, "output_rounded": True,
    }  # fmt: skip
    assert set(scores["images"]) == {"chelsea.png", "rocket.jpg"}
    assert scores["psnr"] == pytest.approx(sum(i["psnr"] for i in scores["images"].values()) / 2)
    assert record["tiling"] == {"side": 32, "margin": 4, "overlap": 8}
    assert str(tmp_path) not in path.read_text()  # no path of a machine goes into a record


def test_a_finished_run_is_skipped_and_a_deleted_record_is_scored_again(nsr, tmp_path, tiny):
    nsr(f"ablate {tiny}")
    (path,) = records(tmp_path)
    before, text = path.stat().st_mtime_ns, path.read_text()
    again = nsr(f"ablate {tiny}")
    assert again.code == 0 and "training" not in again.out and path.stat().st_mtime_ns == before
    path.unlink()
    redone = nsr(f"ablate {tiny}")
    assert redone.code == 0 and "training" not in redone.out
    assert json.loads(path.read_text())["scores"] == json.loads(text)["scores"]


def test_eval_finds_the_weights_that_the_same_overrides_trained(nsr, tmp_path, tiny):
    nsr(f"ablate sparsity=sigmoid {tiny}")
    (path,) = records(tmp_path)
    scores = json.loads(path.read_text())["scores"]
    path.unlink()
    result = nsr(f"eval model=wdsr sparsity=sigmoid {tiny}")
    assert result.code == 0, result.err
    assert json.loads(path.read_text())["scores"] == scores


def test_dry_run_prints_the_cost_and_leaves_nothing(nsr, tmp_path):
    result = nsr("train model=wdsr blocks=16 units=64 width=1 sparsity=softmax cardinality=16 dry_run=true")
    assert result.code == 0, result.err
    assert "parameters      4,877,812\n" in result.out
    assert "MACs per pixel  1.189 M of the input" in result.out
    assert "sparsity_groups: 4" in result.out and "run folder      " in result.out and "steps/s" in result.out
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_makes_one_run_for_each_cell(nsr, tmp_path, tiny):
    result = nsr(f"ablate -m sparsity=none,softmax seed=0,1 {tiny}")
    assert result.code == 0, result.err
    assert len(records(tmp_path)) == 4


@pytest.mark.parametrize("task", ["denoise", "dejpeg"])
def test_other_tasks_run_end_to_end(nsr, tmp_path, tiny, task):
    result = nsr(f"train task={task} sparsity=softmax {tiny}")
    assert result.code == 0, result.err
    (path,) = records(tmp_path)
    scores = json.loads(path.read_text())["scores"]
    assert list(scores) == [{"denoise": "grey", "dejpeg": "luma"}[task]]
    assert ("ssim8" in scores.get("luma", {})) == (task == "dejpeg")


def test_eval_scores_bicubic_by_default(nsr, tmp_path):
    result = nsr("eval")
    assert result.code == 0, result.err
    (path,) = records(tmp_path, "untrained")
    assert json.loads(path.read_text())["scores"]["rgb"]["psnr"] > 30


def test_killed_at_random_instants_and_repeated_the_weights_are_the_same_bits(nsr, tmp_path, tiny):
    line = f"ablate sparsity=gumbel {tiny} steps=800 checkpoint_minutes=0.002 device=cpu"
    straight = tmp_path / "straight"
    straight.mkdir()
    code, out = finish(start(straight, line))
    assert code == 0, out

    killed, dice, said = tmp_path / "killed", random.Random(0), ""
    killed.mkdir()
    for _ in range(4):
        process = start(killed, line)
        for text in process.stdout:
            said += text
            if text.startswith("step"):
                break
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    code, out = finish(start(killed, line))
    said += out
    assert code == 0, said
    assert said.count("resuming after step") >= 3  # the first kill may come before the first checkpoint
    expected, found = weights(straight), weights(killed)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert not list(killed.rglob("*.tmp")), "temporary files of killed processes are cleaned up"


def test_two_processes_on_one_run(tmp_path, tiny):
    line = f"ablate {tiny} steps=400 device=cpu"
    first = start(tmp_path, line)
    for text in first.stdout:
        if text.startswith("training"):
            break
    first.send_signal(signal.SIGSTOP)  # as long as the others take to notice
    leaving, second = start(tmp_path, f"{line} wait=false"), start(tmp_path, line)
    code, out = finish(leaving)
    assert code == 75
    assert f"is held by process {first.pid} on " in out and "not waiting" in out
    for text in second.stdout:
        if "waiting for it" in text:
            break
    assert f"is held by process {first.pid} on " in text
    first.send_signal(signal.SIGCONT)
    (first_code, _), (second_code, out) = finish(first), finish(second)
    assert first_code == second_code == 0, out
    assert "training" not in out and "dB" in out  # the first one's result is shown
    assert len(records(tmp_path)) == 1 and len(list((tmp_path / "results/runs").iterdir())) == 1


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


def test_hard_inference_scores_the_weights_of_the_soft_run(nsr, tmp_path, tiny):
    soft = nsr(f"ablate sparsity=softmax {tiny}")
    (first,) = records(tmp_path)
    hard = nsr(f"ablate sparsity=softmax {tiny} inference=hard save_images=true")
    reverse = nsr(f"ablate sparsity=softmax {tiny} inference=hard results=reverse")  # what trains is always soft
    logs = [next((tmp_path / r / "runs").glob("*/stats.jsonl")).read_text() for r in ("results", "reverse")]
    assert reverse.code == 0 and len({json.loads(log)["psnr"] for log in logs}) == 1
    assert soft.code == hard.code == 0, hard.err
    assert "training" not in hard.out and len(list((tmp_path / "results/runs").iterdir())) == 1
    (second,) = set(records(tmp_path)) - {first}
    ours, theirs = json.loads(first.read_text()), json.loads(second.read_text())
    assert ours["run"] == theirs["run"] and ours["signature"] != theirs["signature"]
    assert theirs["config"] == {**ours["config"], "inference": "hard"}
    assert theirs["scores"]["rgb"]["psnr"] != ours["scores"]["rgb"]["psnr"]
    assert theirs["cost"]["macs"] == ours["cost"]["macs"] and theirs["cost"]["overhead"] < ours["cost"]["overhead"]
    assert list((tmp_path / "results/runs").glob("*/images/embedded_val-hard/*.png"))


@pytest.mark.parametrize("sparsity", ["none", "se", "softmax groups=1"])
def test_hard_inference_needs_groups_to_choose_from(nsr, tiny, sparsity):
    result = nsr(f"ablate sparsity={sparsity} {tiny} inference=hard")
    assert result.code == 2
    assert result.err.startswith(f"nsr ablate: inference=hard: sparsity={sparsity.split()[0]} has one group")


def test_a_record_without_weights_is_enough(nsr, tmp_path, tiny):
    """Records are committed and runs are not: a fresh clone must not train again."""
    nsr(f"ablate {tiny}")
    shutil.rmtree(tmp_path / "results/runs")
    again = nsr(f"ablate {tiny}")
    assert again.code == 0 and "training" not in again.out and "dB" in again.out
    assert not (tmp_path / "results/runs").exists()
    forced = nsr(f"ablate {tiny} rescore=true")
    assert forced.code == 0 and "training" in forced.out


@pytest.mark.parametrize(
    "content", ['{"format": 1}', "{", '{"format": 1, "signature": "x", "scores": {"rgb": {"psnr": 99}}}']
)
def test_a_file_that_is_no_record_of_the_run_is_replaced(nsr, tmp_path, tiny, content):
    nsr(f"ablate {tiny}")
    (path,) = records(tmp_path)
    good = json.loads(path.read_text())
    path.write_text(content)
    assert nsr(f"ablate {tiny}").code == 0
    assert json.loads(path.read_text())["scores"] == good["scores"]


def test_damaged_or_foreign_weights_are_refused(nsr, tmp_path, tiny):
    for seed in (0, 1):
        nsr(f"ablate {tiny} seed={seed}")
    (first, second) = (tmp_path / "results/runs").glob("*/weights.pt")
    for path in records(tmp_path):
        path.unlink()
    original = first.read_bytes()
    flipped = bytearray(original)
    for place in range(len(original) // 2, len(original) // 2 + 50):
        flipped[place] ^= 0xFF
    for content, said in (
        (second.read_bytes(), "another run's weights"),
        (bytes(flipped), "is damaged"),
        (b"", "is damaged"),
    ):
        first.write_bytes(content)
        for seed in (0, 1):
            result = nsr(f"ablate {tiny} seed={seed}")
            if result.code:
                assert result.code == 1 and result.err.count("\n") == 1
                assert f"{first} " in result.err and said in result.err and "delete it" in result.err
                break
        else:
            pytest.fail("nothing was said")
        assert first.read_bytes() == content


def test_scores_of_identical_images_are_valid_json(nsr, tmp_path):
    (tmp_path / "flat").mkdir()
    cv2.imwrite(str(tmp_path / "flat/a.png"), np.full((64, 64, 3), 128, np.uint8))
    result = nsr("eval benchmarks=[./flat]")
    assert result.code == 0 and "inf dB" in result.out
    (path,) = records(tmp_path, "untrained")
    assert "Infinity" not in path.read_text() and json.loads(path.read_text())["scores"]["rgb"]["psnr"] is None


def test_without_git_a_record_says_so(nsr, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(work, "commit", work.commit.__wrapped__)  # asks again
    assert nsr("eval").code == 0
    (path,) = records(tmp_path, "untrained")
    assert json.loads(path.read_text())["made"]["commit"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_step_and_ends_the_process(tmp_path, tiny, number, code):
    process = start(tmp_path, f"ablate {tiny} steps=100000 device=cpu")
    for text in process.stdout:
        if text.startswith("step"):
            break
    process.send_signal(number)
    ended, out = finish(process)
    assert ended == code, out
    assert f"stopped by {number.name} after step " in out and "Traceback" not in out
    assert len(list(tmp_path.rglob("checkpoint-*.pt"))) == 1


def test_a_full_disk_is_one_line_and_nothing_is_torn(tmp_path, tiny):
    disk, line = tmp_path / "disk", f"ablate {tiny} units=64 steps=50 checkpoint_minutes=0 device=cpu"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs to mount a small tmpfs")
    try:
        code, out = finish(start(disk, line))
        assert code == 1, out
        assert "nsr ablate: No space left on device" in out and "Traceback" not in out
        assert not list(disk.rglob("*.tmp")) and not list(disk.rglob("*.pt"))
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        code, out = finish(start(disk, line))
        assert code == 0, out
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_record_of_another_benchmark_or_other_conventions_is_not_taken(nsr, tmp_path):
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/a.png"), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert nsr("eval benchmarks=[./a]").code == 0 and nsr("eval").code == 0
    ours, embedded = records(tmp_path, "untrained")
    good = embedded.read_text()
    for content in (ours.read_text(), good.replace('"border": 8', '"border": 0')):
        embedded.write_text(content)
        assert nsr("eval").code == 0
        assert json.loads(embedded.read_text())["scores"] == json.loads(good)["scores"]


def test_a_folder_whose_images_change_is_another_benchmark(nsr, tmp_path):
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(0)
    for count in (1, 2):
        cv2.imwrite(str(tmp_path / "a/a.bmp"), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))  # the same size
        assert nsr("eval benchmarks=[./a]").code == 0
        assert len(records(tmp_path, "untrained")) == count


def test_the_first_records_did_not_say_where_low_resolution_came_from(nsr, tmp_path):
    nsr("eval")
    (path,) = records(tmp_path, "untrained")
    content = json.loads(path.read_text())
    assert content.pop("official_low_resolution") is False
    path.write_text(json.dumps(content))
    before = path.stat().st_mtime_ns
    assert nsr("eval").code == 0 and path.stat().st_mtime_ns == before


def test_flags_may_stand_anywhere(nsr, tmp_path):
    assert nsr("eval scale=2,3 -m model=bicubic").code == 0
    assert len(records(tmp_path, "untrained")) == 2


def test_weights_can_be_had_although_there_are_records(nsr, tmp_path, tiny):
    """A fresh clone has records; a picture needs the network."""
    nsr(f"ablate {tiny}")
    (record,) = records(tmp_path)
    before = weights(tmp_path), record.read_text()
    shutil.rmtree(tmp_path / "results/runs")
    assert "training" in nsr(f"ablate {tiny} weights=true").out
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in weights(tmp_path).items())
    assert record.read_text() == before[1]
    assert "training" not in nsr(f"ablate {tiny} weights=true").out


def test_compiling_without_a_compiler_is_said(nsr, monkeypatch, tiny):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = nsr(f"ablate {tiny} compile=true")
    assert result.code == 2 and result.err.startswith("nsr ablate: compile=true: needs a C++ compiler")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, tiny):
    code, out = finish(start(tmp_path, f"ablate {tiny} results=/proc/nothing"))
    assert code == 2 and out.startswith("nsr ablate: results=/proc/nothing: cannot be written to (")
    assert out.count("\n") == 1, out


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
