"""What `test_fused.py` runs in a process in which Triton interprets kernels: the fused way, against the definition."""

import pytest
import torch
from definition import by_definition

from nsr_cli.layers import per_sample
from nsr_cli.layers.fused import Fused
from nsr_cli.layers.sparse_conv import SparseConv2d

TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 0.02, torch.float16: 2e-3}  # of the largest number


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(per_sample, "is_fusible", lambda *convolution: True)


LAYERS = {
    "3x3, more than a tile of pixels": (5, 18, (9, 8), {"kernel_size": 3, "padding": 1, "cardinality": 4}),
    "1x1, more than a tile of channels": (70, 66, (3, 4), {"kernel_size": 1, "cardinality": 3, "gate": "sigmoid"}),
    "3x1, without bias": (5, 6, (6, 5), {"kernel_size": (3, 1), "padding": (0, 1), "bias": False}),
    "5x5, dilated": (3, 4, (5, 6), {"kernel_size": 5, "padding": 4, "dilation": 2, "sparsity_groups": 2}),
}
CASES = [(name, torch.float32, torch.channels_last) for name in LAYERS]
CASES += [(name, torch.bfloat16, torch.contiguous_format) for name in [*LAYERS][:2]]
CASES += [([*LAYERS][0], torch.float16, torch.channels_last)]


@pytest.mark.parametrize(("name", "dtype", "layout"), CASES)
def test_values_and_gradients_are_those_of_the_definition(name, dtype, layout):
    """To the input, the weights, the biases and, through the gates, their linear layers."""
    torch.manual_seed(0)
    channels, outputs, size, settings = LAYERS[name]
    layer, exact = (SparseConv2d(channels, outputs, **{"sparsity_groups": 3} | settings) for _ in range(2))
    layer.to(dtype).way = "fused"
    exact.double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(2, channels, *size).to(dtype).to(memory_format=layout)
    found = []
    for one, convolve in ((layer, layer), (exact, lambda x: reference(exact, x))):
        leaf = x.to(one.weight.dtype).requires_grad_()
        out = convolve(leaf)
        slopes = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
        found.append([out, *torch.autograd.grad(out, [leaf, *one.parameters()], slopes)])
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=TOLERANCES[dtype] * theirs.abs().max().item())


def reference(layer: SparseConv2d, x: torch.Tensor) -> torch.Tensor:
    """Eq. 10 in double precision, of the input with its zeros around it."""
    down, right = layer.padding
    padded, gate = torch.nn.functional.pad(x, (right, right, down, down)), layer.gate(x)
    bias = layer.bias
    if bias is None:
        layer.bias = torch.nn.Parameter(torch.zeros(len(layer.weight), dtype=x.dtype), requires_grad=False)
    layer.padding = (0, 0)
    try:
        return by_definition(layer, padded, gate)
    finally:
        layer.padding, layer.bias = (down, right), bias


def test_only_the_gradients_that_are_asked_for():
    x, kernels = torch.rand(2, 3, 5, 5), torch.rand(2, 4, 3, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(Fused.apply(x, kernels, None, (1, 1), (1, 1)).sum(), kernels)
    assert gradient.shape == kernels.shape
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(Fused.apply(x, kernels.detach(), None, (1, 1), (1, 1)).sum(), x)
    assert gradient.shape == x.shape


def test_under_autocast():
    torch.manual_seed(0)
    layer, x = SparseConv2d(5, 8, 3, padding=1), torch.rand(2, 5, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        usual = layer(x)
        layer.way = "fused"
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, usual, rtol=0, atol=0.02)
