"""Networks as .pt2 and ONNX: the numbers of the network itself, for any batch and size, or no file."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from nsr_cli.errors import Failed
from nsr_cli.runs import export as exports
from nsr_cli.runs.build import build
from nsr_cli.runs.export import FORMATS, TOLERANCE, expected_input, export

NEEDS_ONNX = "needs the extra onnx: pip install 'nsr[onnx]'"
SMALL = "blocks=1 units=4 width=2 patch=24"
LARGE = "blocks=1 units=32 width=2 patch=48"  # with AVX512 the samples of its layers go one by one
RUNS = [
    f"sparsity=none scale=3 {SMALL}",
    f"sparsity=softmax cardinality=2 task=denoise {SMALL}",
    f"sparsity=softmax scale=2 {LARGE}",
    f"sparsity=softmax groups=9 scale=2 {LARGE}",
    f"sparsity=softmax scale=2 inference=hard {SMALL}",
    f"sparsity=softmax shared_gate=true form=exact task=dejpeg {SMALL}",
    f"sparsity=uniform task=dejpeg {SMALL}",
    f"sparsity=static scale=4 {SMALL}",
    f"sparsity=se task=denoise {LARGE}",
    f"sparsity=sigmoid task=dejpeg {LARGE}",
    "model=edsr sparsity=softmax groups=2 scale=4 blocks=1 units=4",
    "model=dncnn task=denoise model.network.layers=4 +model.network.width=8",
]


@pytest.fixture
def network_of(asked):
    """A network and its Spec."""

    def make(line: str) -> tuple:
        run = asked(f"ablate {line}")
        network = build(run, torch.device("cpu"))
        with torch.no_grad():
            for parameter in network.parameters():  # biases and gates too, as after a training
                parameter += 0.05 * torch.randn_like(parameter)
        return network, run.spec

    return make


def written(tmp_path, network, spec, *names: str, overwrite: bool = False) -> list[float]:
    found = dict(export(network, spec, [tmp_path / name for name in names], overwrite))
    assert [path.name for path in found] == [*names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    return list(found.values())


@torch.no_grad()
def assert_same(opened, network, channels: int) -> None:
    for batch, height, width in ((1, 33, 20), (4, 12, 37)):
        images = torch.rand(batch, channels, height, width)
        torch.testing.assert_close(opened(images), network(images), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("line", RUNS)
def test_onnx_computes_the_same_for_any_batch_and_size(network_of, tmp_path, line):
    onnx = pytest.importorskip("onnx", reason=NEEDS_ONNX)
    onnxruntime = pytest.importorskip("onnxruntime", reason=NEEDS_ONNX)
    pytest.importorskip("onnxscript", reason=NEEDS_ONNX)
    network, spec = network_of(line)
    (difference,) = written(tmp_path, network, spec, "net.onnx")
    assert 0 < difference < TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    channels = taken.shape[1]
    assert (taken.name, taken.shape) == ("image", ["batch", channels, "height", "width"])
    assert (given.name, given.shape[:2]) == ("restored", ["batch", channels])
    assert_same(lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0]), network, channels)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["spec"]) == spec.content and said["patch"] == str(spec.training.patch)
    if spec.sparsity["gate"] in ("none", "uniform", "static"):  # plain convolutions, one kernel each
        kinds = {node.op_type for node in model.graph.node}
        assert "Conv" in kinds and not kinds & {"MatMul", "Gemm", "Einsum", "Softmax", "ReduceMean", "ReduceL2", "Sqrt"}


@pytest.mark.parametrize("line", RUNS)
def test_a_program_of_torch_computes_the_same_for_any_batch_and_size(network_of, tmp_path, line):
    network, spec = network_of(line)
    (difference,) = written(tmp_path, network, spec, "net.pt2")
    assert difference < TOLERANCE
    said = {"nsr.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=said)
    assert json.loads(json.loads(said["nsr.json"])["spec"]) == spec.content
    channels = 3 if spec.task["name"] == "sr" else 1
    assert_same(program.module(), network, channels)


def test_several_formats_share_one_program(network_of, tmp_path, monkeypatch):
    network, spec = network_of(f"sparsity=softmax {SMALL}")
    programs, real = [], exports.export_program
    monkeypatch.setattr(exports, "export_program", lambda *given: programs.append(real(*given)) or programs[-1])
    written(tmp_path, network, spec, "a.pt2", "b.pt2", "c.safetensors")
    assert len(programs) == 1


@pytest.mark.parametrize("line", [RUNS[0], RUNS[1]])
def test_what_a_network_takes_is_said(network_of, line):
    network, spec = network_of(line)
    said = expected_input(network, spec)
    if spec.task["name"] == "sr":
        assert "image (batch, 3, height, width): RGB, float32 in [0, 1]" in said
        assert "restored (batch, 3, 3 height, 3 width)" in said and "tiles" not in said
    else:
        assert "image (batch, 1, height, width): grey, float32 in [0, 1]" in said
        assert "restored (batch, 1, height, width)" in said and "tiles    24x24: " in said
        assert "tiles    40x40: " in expected_input(network, replace(spec, tile=40))


# Refusals, after which nothing is left


class Branching(nn.Module):
    """What it computes depends on its input, in Python."""

    tile = 24

    def forward(self, x):
        return x + 1 if x.sum() > 0 else x


class Noisy(nn.Module):
    tile = 24

    def forward(self, x):
        return x + torch.rand(())


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_a_network_that_cannot_be_followed(network_of, tmp_path, ending):
    for package in FORMATS[ending].packages:
        pytest.importorskip(package, reason=NEEDS_ONNX)
    _, spec = network_of(f"sparsity=none task=denoise {SMALL}")
    with pytest.raises(Failed, match=rf"^\S+/net\{ending}: this network cannot be written as \{ending}: .+$"):
        written(tmp_path, Branching(), spec, f"net{ending}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_kept(network_of, tmp_path):
    _, spec = network_of(f"sparsity=none task=denoise {SMALL}")
    (tmp_path / "net.pt2").write_text("the one before")
    with pytest.raises(Failed, match=r"net.pt2: not written: its output differs by 0\.\d+ from the network's$"):
        written(tmp_path, Noisy(), spec, "net.pt2", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    assert (tmp_path / "net.pt2").read_text() == "the one before"
