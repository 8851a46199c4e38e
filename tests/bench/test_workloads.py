"""What is timed computes what it says."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from nsr_cli.bench.workloads import (
    MODES,
    NETWORKS,
    PLAIN,
    Convolution,
    chosen_way,
    convolutions,
    networks,
    output_like,
    run_sample_by_sample,
    ways,
)
from nsr_cli.layers import choice, per_sample

CPU = torch.device("cpu")
SMALL = {"batch": 3, "channels": 8, "size": 6, "kernel": 3, "cardinality": 2}


def layer_of(call: partial) -> torch.nn.Module:
    forward = call.args[0]
    return forward.args[0] if isinstance(forward, partial) else forward


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_way_runs(precision, backward):
    wanted = [
        *ways(PLAIN, 8, backward),
        *ways(PLAIN, 4, backward),
        *ways(2, 4, backward),
        *(one for one in ways(4, 8, backward, "cuda") if one.way != per_sample.FUSED),
    ]
    calls = convolutions(wanted, SMALL | {"precision": precision}, CPU, backward)
    assert list(calls) == wanted
    for one, call in calls.items():
        call()
        layer, x = layer_of(call), call.args[1]
        assert layer.training == backward and layer.out_channels == one.outputs
        assert len(layer.weight) == (one.groups or 1) * one.outputs
        assert x.shape == (3, 8, 6, 6) and x.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        assert x.is_contiguous() == (one.way in ("contiguous", "as groups", "as products", "as branches"))


def test_a_plain_convolution_has_a_way_more_forward_than_backward():
    assert [one.way for one in ways(PLAIN, 8, backward=False)] == ["contiguous", "channels-last", "per sample"]
    assert [one.way for one in ways(PLAIN, 8, backward=True)] == ["contiguous", "channels-last"]
    assert [one.way for one in ways(4, 8, backward=False)] == ["as groups", "one by one"]
    on_gpu = [one.way for one in ways(4, 8, False, "cuda", compiled=True) if one.way != per_sample.FUSED]
    assert on_gpu == ["as groups", "one by one", "as products", "as branches", "compiled"]
    assert str(Convolution(4, 8, "as groups")) == "sparse, k = 4, 8 outputs, as groups"


def test_the_way_that_a_layer_takes_by_itself(monkeypatch):
    monkeypatch.setattr(choice, "has_avx512", lambda: True)
    small, large = (SMALL | {"channels": 64, "size": size, "precision": "fp32"} for size in (8, 64))
    assert [chosen_way(64, setting, CPU, False) for setting in (small, large)] == ["as groups", "one by one"]


def test_forward_keeps_no_graph_and_backward_reaches_the_input_and_every_weight(monkeypatch):
    seen, real = [], torch.autograd.grad

    def grad(out, inputs, *rest):
        seen.append((out.grad_fn is not None, inputs, real(out, inputs, *rest)))

    monkeypatch.setattr(torch.autograd, "grad", grad)
    (call,) = convolutions([Convolution(2, 8, "as groups")], SMALL | {"precision": "fp32"}, CPU, True).values()
    call()
    (has_graph, inputs, gradients), layer = seen[0], layer_of(call)
    assert has_graph and inputs[0] is call.args[1] and len(inputs) == 1 + len(list(layer.parameters())) == 5
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    (call,) = convolutions([Convolution(2, 8, "as groups")], SMALL | {"precision": "fp32"}, CPU, False).values()
    outputs = []
    layer_of(call).register_forward_hook(lambda module, given, out: outputs.append(out))
    call()
    assert len(seen) == 1 and outputs[0].grad_fn is None


def test_sample_by_sample_is_the_same_convolution():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 4, 3, padding=1)
    x = torch.rand(3, 8, 6, 7).to(memory_format=torch.channels_last)
    out = output_like(layer, x)
    with torch.no_grad():
        run_sample_by_sample(layer, out, x)
        torch.testing.assert_close(out, F.conv2d(x, layer.weight, layer.bias, padding=1))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_trains_and_forward_does_not(precision):
    spec = dict(scale=2, blocks=1, units=4, width=2, batch=2, patch=8, groups=2, cardinality=2)
    calls = networks(spec, precision, CPU)
    assert set(calls) == {(name, mode) for name in NETWORKS for mode in MODES}
    for (name, mode), call in calls.items():
        network = call.args[0]
        assert network.training == (mode == MODES[1])
        assert network.body[0].conv1.sparsity_groups == (1 if name == "N/A" else 2)
        before = [parameter.clone() for parameter in network.parameters()]
        call()
        changed = [not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)]
        assert any(changed) == (mode == MODES[1])
