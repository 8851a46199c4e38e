"""nsr eval ckpt=FILE: a file that holds its Spec is scored as the network that it says."""

import shutil

import pytest
from kept import records

from nsr_cli.runs.record import read_record


@pytest.fixture
def weights(trained, tmp_path):
    (path,) = tmp_path.glob("results/runs/*/weights.pt")
    return path


@pytest.fixture
def exported(nsr, tmp_path, trained, tiny):
    assert nsr(f"export sparsity=softmax {tiny} to=net.safetensors").code == 0
    shutil.rmtree(tmp_path / "results")
    return tmp_path / "net.safetensors"


def scored(nsr, tmp_path, line: str):
    """The record of `nsr eval LINE`, which is removed again."""
    result = nsr(f"eval {line}")
    assert result.code == 0, result.err
    (path,) = tmp_path.glob("results/records/untrained/*.json")
    record = read_record(path)
    path.unlink()
    return path.name, record.spec, record.tiling, {name: score.means for name, score in record.scores.items()}


@pytest.mark.parametrize("more", ["", " inference=hard tile=40"])
def test_a_portable_file_needs_no_overrides(nsr, tmp_path, exported, tiny, more):
    with_all = scored(nsr, tmp_path, f"model=wdsr sparsity=softmax {tiny} ckpt=net.safetensors{more}")
    assert scored(nsr, tmp_path, f"ckpt=net.safetensors{more}") == with_all
    assert scored(nsr, tmp_path, f"model=wdsr blocks=1 scale=2 ckpt=net.safetensors{more}") == with_all


def test_the_weights_of_a_run_need_none(nsr, tmp_path, weights, tiny):
    with_all = scored(nsr, tmp_path, f"model=wdsr sparsity=softmax {tiny} ckpt={weights}")
    assert scored(nsr, tmp_path, f"ckpt={weights}") == with_all
    result = nsr(f"eval scale=3 ckpt={weights}")
    assert result.code == 2 and result.err.startswith(f"nsr eval: scale=3: {weights} holds scale=2"), result.err
    shutil.copy(weights, tmp_path / "alone.pt")  # says nothing
    assert "model=bicubic has no weights to read" in nsr("eval ckpt=alone.pt").err
    for damaged in ("[]", "[" * 10**5):
        (tmp_path / "spec.json").write_text(damaged)
        assert "model=bicubic has no weights to read" in nsr("eval ckpt=alone.pt").err


def test_the_inference_and_tile_of_the_file_are_taken(nsr, tmp_path, trained, tiny):
    assert nsr(f"export sparsity=softmax {tiny} inference=hard tile=40 to=hard.safetensors").code == 0
    _, spec, tiling, _ = scored(nsr, tmp_path, "ckpt=hard.safetensors")
    assert (spec["inference"], spec["tile"], tiling["side"]) == ("hard", 40, 40)


@pytest.mark.parametrize("task", ["denoise sigma=30", "dejpeg quality=20"])
def test_benchmarks_and_conventions_are_those_of_the_files_task(nsr, tmp_path, tiny, task):
    line = f"model=wdsr task={task} {tiny}"
    assert nsr(f"train {line}").code == 0
    assert nsr(f"export {line} to=net.safetensors").code == 0
    (path,) = records(tmp_path)
    own, (name, spec, *_, means) = read_record(path), scored(nsr, tmp_path, "ckpt=net.safetensors")
    assert name.endswith(f"--{own.benchmark}.json") and spec["task"] == own.spec["task"]
    assert list(means) == list(own.scores)
    for convention, score in own.scores.items():
        assert means[convention] == pytest.approx(score.means, abs=1e-4)


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ("scale=4", "scale=2"),
        ("task=denoise", "task=sr"),
        ("model=edsr", "model=wdsr"),
        ("sparsity=none", "sparsity=softmax"),
        ("model=wdsr blocks=3", "blocks=1"),
        ("groups=8", "groups=4"),
        ("sparsity.tau=3", "sparsity.tau=1"),
        ("seed=7", "seed=0"),
        ("protocol=short", "protocol=smoke"),
        ("model=wdsr model.network.units=5", "model.network.units=4"),
    ],
)
def test_an_override_that_contradicts_the_file(nsr, tmp_path, exported, line, held):
    result = nsr(f"eval {line} ckpt=net.safetensors")
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert result.err.startswith(f"nsr eval: {line.split()[-1]}: net.safetensors holds {held}"), result.err
    assert records(tmp_path) == []


def test_all_contradictions_are_named_and_a_cell_of_a_sweep_fails_alone(nsr, tmp_path, exported):
    error = nsr("eval scale=3 model=wdsr blocks=2 ckpt=net.safetensors").err
    assert error.startswith("nsr eval: scale=3 blocks=2: net.safetensors holds scale=2 blocks=1"), error
    result = nsr("eval -m ckpt=net.safetensors scale=2,3 inference=soft,hard")
    assert result.code == 2 and "scale=3: net.safetensors holds scale=2" in result.err
    assert len(records(tmp_path)) == 2
