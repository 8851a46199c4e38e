"""Whatever decides a number is signed, or cannot be changed; seen from the command line."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from kept import only_record, records
from terminal import environment

from nsr_cli.runs.record import read_record

OWN = """
import numpy as np
import torch
from nsr_cli.models.wdsr import WDSR


class Brighter(WDSR):
    def forward(self, x):
        return super().forward(x) + 0.1


def nearest(image, scale):
    return torch.nn.functional.interpolate(image, scale_factor=scale, mode="nearest")
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> None:
    """A module ``my_own`` with a network and a function."""
    (tmp_path / "my_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_own", None)


@pytest.mark.parametrize("order", [0, 1])
def test_another_class_has_a_record_of_its_own_in_either_order(nsr, tmp_path, own, tiny, order):
    lines = ["", "model.network._target_=my_own.Brighter"][:: 1 if order == 0 else -1]
    scores = []
    for line in lines:
        result = nsr(f"ablate sparsity=none {tiny} {line}")
        assert result.code == 0 and "training wdsr-sr-" in result.out, result.err
    found = {record.spec["model"]["target"]: record for record in map(read_record, records(tmp_path))}
    assert set(found) == {"my_own.Brighter", "nsr_cli.models.wdsr.WDSR"}
    scores = [record.scores["rgb"].means["psnr"] for record in found.values()]
    assert len({record.run for record in found.values()}) == len(set(scores)) == 2


def test_a_class_that_is_not_there_has_no_score(nsr, tmp_path, trained, tiny):
    result = nsr(f"ablate {tiny} model.network._target_=does.not.Exist")
    assert (result.code, result.out) == (2, "") and result.err.count("\n") == 1
    assert result.err.startswith("nsr ablate: _target_=does.not.Exist: expected a class or function that can be imp")
    assert only_record(tmp_path) == trained


def test_another_function_is_another_run(nsr, tmp_path, own):
    """Its 30.83 dB was once reported as bicubic's 31.77."""
    assert nsr("eval model=bicubic model.network._target_=my_own.nearest").code == 0
    first = only_record(tmp_path).scores["rgb"].means["psnr"]
    honest = nsr("eval model=bicubic")
    both = [record.scores["rgb"].means["psnr"] for record in map(read_record, records(tmp_path))]
    assert len(both) == 2 and first == min(both) < max(both) - 0.5
    assert f"rgb: {max(both):.4f} dB" in honest.out


@pytest.mark.parametrize("key", ["_partial_=true", "_convert_=all", "_args_=[3]", "_recursive_=false"])
def test_what_hydra_would_read_of_a_network_is_refused(refused, key):
    refused(
        f"eval +model.network.{key}",
        f"nsr eval: model.network.{key.partition('=')[0]}: not an argument; expected _target_ and its arguments only",
    )


# What is signed is built


def count(out: str) -> int:
    (line,) = (line for line in out.splitlines() if line.startswith("parameters "))
    return int(line.split()[1].replace(",", ""))


@pytest.mark.parametrize("model", ["wdsr", "edsr"])
def test_every_knob_of_the_gate_that_is_signed_is_built(nsr, model):
    """Four run folders of EDSR were once of the same network. Needs a sparsify that takes the gate's knobs."""
    line = f"train model={model} sparsity=softmax blocks=1 units=4 batch=2 device=cpu dry_run=true"
    plain = nsr(line)
    assert plain.code == 0, plain.err
    learnt, hidden = nsr(f"{line} learn_tau=true"), nsr(f"{line} gate_hidden=8")
    layers = count(learnt.out) - count(plain.out)  # a temperature each
    assert layers in (2, 3) and count(hidden.out) > count(plain.out)
    exact = nsr(f"{line} form=exact")
    assert exact.code == 0 and "form: exact" in exact.out and count(exact.out) == count(plain.out)


def test_a_gate_that_cannot_be_shared_is_refused(nsr):
    result = nsr("train model=edsr sparsity=softmax shared_gate=true blocks=1 units=4 batch=2 dry_run=true")
    expected = "nsr train: shared_gate=true: sparse convolutions attached to model=edsr share no gates\n"
    assert (result.code, result.err) == (2, expected)


# Names and places


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", ".hidden", "a b", "", "a/b", "5"])
@pytest.mark.parametrize("group", ["model", "protocol", "task"])
def test_a_name_is_a_name_of_files_or_refused(nsr, tmp_path, group, name):
    result = nsr(f"eval '{group}.name=\"{name}\"'")
    if name == "5" and group == "model":
        assert result.code == 0
        return
    if name == "5":  # a protocol of that name has no training here, but a task has: it is not of its class
        assert result.code == (0 if group == "protocol" else 2)
        return
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert f"{group}.name={name}: expected only letters, digits, _, - and ., for file names" in result.err
    assert list(tmp_path.iterdir()) == [] and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize("key", ["tau", "units", "seed", "scale", "learning_rate", "threads", "sparsity.tau"])
def test_an_environment_variable_that_is_no_number_is_one_line(nsr, monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/somebody")
    result = nsr(f"ablate '{key}=${{oc.env:HOME}}'")
    assert result.code == 2 and result.err.count("\n") == 1 and result.out == "", result.err
    assert f"{key}=/home/somebody: expected " in result.err


def test_images_whose_names_are_not_utf_8(nsr, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    (tmp_path / "mine").mkdir()
    place = os.fsencode(tmp_path / "mine") + b"/\xff\xfe.png"
    with open(place, "wb") as file:
        file.write(cv2.imencode(".png", image)[1].tobytes())
    for again in (False, True):
        result = nsr("eval benchmarks=[./mine]")
        assert result.code == 0, (again, result.err)
        (name,) = only_record(tmp_path).scores["rgb"].images
        assert os.fsencode(name) == b"\xff\xfe.png"
    assert nsr("eval benchmarks=[./mine] save_images=true").code == 0


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
def test_a_daemon_without_standard_streams(tmp_path, closed):
    """As cron and daemons start processes: sys.stderr is None."""
    words = [sys.executable, "-m", "nsr_cli"]
    script = f'"$@" {closed}'
    for line, code in (("eval", 0), ("eval scale=9", 2)):
        done = subprocess.run(
            ["bash", "-c", script, "nsr", *words, *line.split()], cwd=tmp_path, env=environment(), capture_output=True
        )
        assert done.returncode == code and b"Traceback" not in done.stdout + done.stderr
    assert only_record(tmp_path).scores["rgb"].means["psnr"] > 30
