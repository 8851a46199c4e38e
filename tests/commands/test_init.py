"""Fine-tuning: a training that starts from a checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from kept import records

from nsr_cli.engine.saver import Saver
from nsr_cli.runs.record import read_record

OTHERS = "blocks=1 units=4 width=1 steps=3 batch=2 threads=1 seed=1"  # of another seed than the checkpoint


@pytest.fixture
def start(tmp_path, trained):
    """The weights of a finished training at x2, elsewhere."""
    (path,) = (tmp_path / "results/runs").glob("*/weights.pt")
    (tmp_path / "results").rename(tmp_path / "first")
    return tmp_path / "first" / path.relative_to(tmp_path / "results")


def final(tmp_path, results: str = "results") -> dict:
    (path,) = (tmp_path / results / "runs").glob("*/weights.pt")
    return torch.load(path, weights_only=True)["model"]


def test_a_training_goes_on_from_a_checkpoint(nsr, tmp_path, start):
    line = f"ablate {OTHERS} init={start} learning_rate=1e-12"
    result = nsr(line)
    assert result.code == 0, result.err
    assert f"starting from {start}\n" in result.out
    expected = torch.load(start, weights_only=True)["model"]
    for key, value in final(tmp_path).items():  # at this learning rate nothing moves
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-9)
    assert "training wdsr" not in nsr(line).out


def test_of_another_scale_what_fits_is_taken_and_the_rest_is_listed(nsr, tmp_path, start):
    result = nsr(f"ablate {OTHERS} scale=3 init={start} learning_rate=1e-12")
    assert result.code == 0, result.err
    assert f"starting from {start}; not loaded, because their sizes differ: tail, skip\n" in result.out
    expected, found = torch.load(start, weights_only=True)["model"], final(tmp_path)
    same = {key for key in found if found[key].shape == expected[key].shape and found[key].allclose(expected[key])}
    assert {key for key in found if key.startswith(("head", "body"))} == same


@pytest.mark.parametrize("scale", [2, 3])
def test_a_training_goes_on_from_an_exported_network(nsr, tmp_path, start, scale):
    """Its folded weights fitted no weight-normalised layer: the shipped networks could not be fine-tuned."""
    assert nsr(f"export ckpt={start} to=net.safetensors").code == 0
    result = nsr(f"ablate {OTHERS} scale={scale} init=net.safetensors learning_rate=1e-12")
    assert result.code == 0, result.err
    assert ("not loaded, because their sizes differ: tail, skip\n" in result.out) == (scale == 3)
    expected, found = torch.load(start, weights_only=True)["model"], final(tmp_path)
    norms = [key for key in expected if key.startswith("body") and key.endswith("original1")]
    for key in norms:
        kernels = (torch._weight_norm(w[key], w[key.replace("original1", "original0")], 0) for w in (expected, found))
        torch.testing.assert_close(*kernels)
    assert norms


def test_it_is_signed_by_the_content_of_the_file(asked, tmp_path):
    for name, content in (("a.pt", b"one"), ("b.pt", b"one"), ("c.pt", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (asked(f"ablate init={tmp_path / name}") for name in ("a.pt", "b.pt", "c.pt"))
    assert a.name == b.name != c.name and a.name != asked("ablate").name
    assert "init" not in asked("ablate").spec.signed["training"]  # as before there was such a knob
    assert str(tmp_path) not in json.dumps(a.spec.signed)


def test_an_interrupted_training_resumes_from_its_own_checkpoint(nsr, tmp_path, start, monkeypatch):
    line = f"ablate {OTHERS} init={start} checkpoint_minutes=0"
    assert nsr(f"{line} results=whole").code == 0

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "finish", killed)
        assert nsr(line).code == 130
    again = nsr(line)
    assert again.code == 0 and "resuming after step 2 of 3" in again.out, again.err
    expected = final(tmp_path, "whole")
    assert all(torch.equal(value, expected[key]) for key, value in final(tmp_path).items())


def test_the_record_of_a_finished_run_is_enough(nsr, tmp_path, start):
    assert nsr(f"ablate {OTHERS} init={start}").code == 0
    (path,) = records(tmp_path)
    scores = read_record(path).scores
    path.unlink()
    assert nsr(f"eval model=wdsr sparsity=softmax {OTHERS} init={start}").code == 0
    assert read_record(path).scores == scores


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ablate init=no.pt", "nsr ablate: init=no.pt: cannot be read (No such file or directory)\n"),
        (
            "eval model=wdsr units=4 ckpt=bare.pt init=notes.pt",
            "nsr eval: init=notes.pt: there is no training that could start from it\n",
        ),
        ("ablate units=4 init=notes.pt", "nsr ablate: notes.pt: not network weights; expected"),
        (
            "ablate scale=3 units=5 init={start}",
            "nsr ablate: {start}: 0 of 19 tensors of WDSR fit, expected more than half: head.bias: model (5,), ",
        ),
        (  # only head, tail and skip fit
            "train model=wdsr sparsity=none units=4 width=1 blocks=2 init={start}",
            "nsr train: {start}: 9 of 21 tensors of WDSR fit, expected more than half: body.0.conv",
        ),
        ("train model=edsr units=4 init={start}", "nsr train: {start}: weights of WDSR, but the model is EDSR"),
        (  # a checkpoint of another scale, where all of it is needed
            "eval model=wdsr sparsity=softmax units=4 width=1 scale=3 ckpt=bare.pt",
            "nsr eval: bare.pt: weights of WDSR in other sizes: tail.bias: model (27,), file (12,); ",
        ),
    ],
)
def test_what_cannot_be_started_from_is_named(nsr, tmp_path, start, line, message):
    (tmp_path / "notes.pt").write_text("some notes")
    (tmp_path / "bare.pt").write_bytes(Path(start).read_bytes())  # without its Spec
    verb, _, rest = line.format(start=start).partition(" ")
    result = nsr(f"{verb} blocks=1 steps=3 batch=2 threads=1 {rest}")
    assert result.code == 2 and result.err.startswith(message.format(start=start)), result.err
    assert result.err.count("\n") == 1 and not list((tmp_path / "results").glob("runs/*/weights.pt"))
