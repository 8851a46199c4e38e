"""The layer on a GPU against the layer on a CPU in double precision, which the other tests hold to its definition."""

import copy
import itertools

import pytest
import torch
from torch import nn

from nsr_cli.bench.workloads import capture_graph, networks
from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.gates import GATES
from nsr_cli.layers.sparse_conv import SparseConv2d

WAYS = [*per_sample.WAYS, None, "exact"]  # None: the layer's own choice
CONVOLUTIONS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "3x3, d = 5": {"kernel_size": 3, "padding": 1, "cardinality": 5},  # unequal cardinal groups
    "5x5, k = 1": {"kernel_size": 5, "padding": 2, "sparsity_groups": 1},
    "1x1, no bias": {"kernel_size": 1, "bias": False, "sparsity_groups": 8, "cardinality": 32},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 4},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "gate_hidden": 4, "learn_tau": True},
}
PRECISIONS = {"fp32": 1e-4, "bf16": 0.04}  # of the largest number


def compared(layer: SparseConv2d, x: torch.Tensor, device: torch.device, precision: str = "fp32", run=None) -> None:
    """Forward and all gradients on the device against those of a CPU in double precision."""
    exact, found = copy.deepcopy(layer).double(), []
    exact.way = None
    layer.to(device)
    for one, image in ((exact, x.double()), (layer, x.to(device))):
        leaf = image.detach().requires_grad_()
        with torch.autocast(image.device.type, torch.bfloat16, enabled=one is layer and precision == "bf16"):
            out = run(leaf) if run is not None and one is layer else one(leaf)
        slopes = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
        leaves = [leaf, *one.parameters()]
        found.append([out, *torch.autograd.grad(out, leaves, slopes.to(out.dtype), allow_unused=True)])
    for theirs, ours in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            atol = PRECISIONS[precision] * theirs.abs().max().item()
            torch.testing.assert_close(ours.double().cpu(), theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_way_and_convolution(device, name, way, precision):
    torch.manual_seed(0)
    settings = {"sparsity_groups": 3, "cardinality": 4} | CONVOLUTIONS[name]
    form = {"form": "exact"} if way == "exact" else {"way": way}
    layer, x = SparseConv2d(20, 36, **settings, **form), torch.randn(3, 20, 17, 19)
    if way == per_sample.FUSED and not per_sample.is_fusible(x.to(device), layer.stride, layer.groups):
        pytest.skip("the fused kernel is for a stride of 1, one group, and a GPU with Triton")
    compared(layer, x.to(memory_format=torch.channels_last), device, precision)


@pytest.mark.parametrize(("gate", "k", "d"), [*itertools.product(GATES, (1, 4), (1, 3))])
def test_every_gate(device, gate, k, d):
    torch.manual_seed(0)
    layer = SparseConv2d(8, 12, 3, padding=1, gate=gate, sparsity_groups=k, cardinality=d, tau=0.5).eval()
    compared(layer, torch.randn(5, 8, 9, 7), device)


def test_the_size_of_the_papers_networks(device):
    torch.manual_seed(0)
    layer = SparseConv2d(32, 128, 3, padding=1, sparsity_groups=4, cardinality=16)
    compared(layer, torch.randn(16, 32, 48, 48), device)


def test_hard_inference_an_empty_batch_and_a_lone_sample(device):
    torch.manual_seed(0)
    layer = SparseConv2d(8, 12, 3, padding=1, cardinality=3, inference="hard").eval()
    compared(layer, torch.randn(5, 8, 9, 7), device)
    assert layer(torch.randn(0, 8, 9, 7, device=device)).shape == (0, 12, 9, 7)
    assert layer(torch.randn(8, 9, 7, device=device)).shape == (12, 9, 7)


def test_a_compiled_layer(device):
    torch.manual_seed(0)
    layer = SparseConv2d(8, 12, 3, padding=1, cardinality=3)
    compared(layer, torch.randn(4, 8, 9, 7), device, run=torch.compile(layer))


def test_the_choice_is_measured_once_and_kept(gpu, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "chosen", {})
    layer, x = SparseConv2d(32, 64, 3, padding=1).to(gpu), torch.rand(4, 32, 24, 24, device=gpu)
    layer(x)
    (way,), (file,) = choice.chosen.values(), (tmp_path / "nsr/ways").iterdir()
    content = choice.read_times(choice.json.loads(file.read_text())["name"])
    assert way == min(content["seconds"], key=content["seconds"].get) and content["failed"] == {}
    layer(x)
    assert len(choice.chosen) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_as_a_graph_trains_as_the_step_does(gpu, precision):
    sizes = {"scale": 2, "blocks": 2, "units": 16, "width": 2, "batch": 4, "patch": 24, "groups": 4, "cardinality": 4}
    trained, begun = [], None
    for replays in (False, True):
        step = networks(sizes, precision, gpu)["softmax", "training step"]
        network: nn.Module = step.args[0]
        begun = flat(network)
        run = capture_graph(step) if replays else step
        for _ in range(2 if replays else 5):  # three warm up
            run()
        trained.append(flat(network))
    moved, apart = (trained[0] - begun).abs().mean(), (trained[0] - trained[1]).abs().mean()
    assert moved > 1e-3 and apart < 0.1 * moved  # Adam makes large steps of gradients about 0, whichever sign they have


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
