"""The sparse convolution against its definition, written out as plain loops."""

import re

import pytest
import torch
import torch.nn.functional as F
from definition import by_definition
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from nsr_cli.layers import gates, per_sample
from nsr_cli.layers.gates import GATES
from nsr_cli.layers.sparse_conv import SparseConv2d, mix_kernels


@pytest.mark.parametrize(
    ("k", "d", "channels", "gate"),
    [(4, 1, 6, "softmax"), (4, 3, 6, "softmax"), (3, 5, 42, "softmax"), (2, 6, 6, "sigmoid"), (1, 6, 6, "se")],
)
@pytest.mark.parametrize("conv", [{"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2}])
@pytest.mark.parametrize("way", per_sample.EVERYWHERE)
def test_values_and_gradients_are_those_of_the_definition(k, d, channels, gate, conv, way):
    torch.manual_seed(0)
    layer = SparseConv2d(5, channels, 3, sparsity_groups=k, cardinality=d, gate=gate, tau=0.7, way=way, **conv).double()
    x = torch.randn(3, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    leaves = [x, *layer.parameters()]

    fast = layer(x)
    slow = by_definition(layer, x, layer.gate(x))
    target = torch.randn_like(slow)
    fast_gradients = torch.autograd.grad((fast * target).sum(), leaves)
    slow_gradients = torch.autograd.grad((slow * target).sum(), leaves)

    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", [*per_sample.EVERYWHERE, "exact", "none"])
@pytest.mark.parametrize(
    "follows", [("relu",), ("residual",), ("pools",), ("relu", "pools"), ("relu", "residual", "pools")]
)
def test_what_follows_a_convolution_is_the_same_as_if_it_were_done_afterwards(way, follows):
    torch.manual_seed(0)
    settings = {"form": "exact"} if way == "exact" else {"gate": "none"} if way == "none" else {"way": way}
    layer = SparseConv2d(5, 6, 3, stride=2, **settings, dtype=torch.float64)
    x = torch.randn(3, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    added = torch.randn(3, 6, 4, 3, dtype=torch.float64, requires_grad=True)
    residual = added if "residual" in follows else None
    leaves, weight = [x, *([added] if "residual" in follows else []), *layer.parameters()], torch.randn(3, 6).double()
    after = per_sample.After("relu" in follows, residual, "pools" in follows)

    out, average = layer(x, after=after) if after.pools else (layer(x, after=after), None)
    plain = layer(x)
    plain = F.relu(plain) if after.relu else plain
    plain = plain if residual is None else plain + residual
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-12)
    if average is not None:
        torch.testing.assert_close(average, plain.mean(dim=(2, 3)), rtol=0, atol=1e-12)
    average = out.mean(dim=(2, 3)) if average is None else average
    sums = [(y**3).sum() + (a**2 * weight).sum() for y, a in ((out, average), (plain, plain.mean(dim=(2, 3))))]
    for ours, theirs in zip(*(torch.autograd.grad(total, leaves) for total in sums), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_a_known_average_is_taken_for_the_gate():
    layer, x = SparseConv2d(4, 6, 3, dtype=torch.float64), torch.randn(2, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x, average=x.mean(dim=(2, 3))), layer(x), rtol=0, atol=1e-12)
    assert (layer(x, average=x.mean(dim=(2, 3)) + 1) - layer(x)).abs().max() > 1e-3


@pytest.mark.parametrize(("gate", "k", "d", "channels"), [("softmax", 3, 2, 6), ("sigmoid", 2, 5, 9), ("se", 1, 6, 6)])
@pytest.mark.parametrize("settings", [{}, {"form": "exact"}, {"stride": 2, "padding_mode": "reflect"}])
@pytest.mark.parametrize("way", per_sample.EVERYWHERE)
def test_grouped_convolutions_are_those_of_the_definition(gate, k, d, channels, settings, way):
    torch.manual_seed(0)
    sparsity = {"sparsity_groups": k, "cardinality": d, "gate": gate, "way": way}
    layer = SparseConv2d(12, channels, 3, groups=3, **sparsity, **settings, dtype=torch.float64)
    x = torch.randn(2, 12, 7, 8, dtype=torch.float64, requires_grad=True)
    fast, slow = layer(x), by_definition(layer, x, layer.gate(x))
    assert layer.weight.shape == (k * channels, 4, 3, 3)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    target, leaves = torch.randn_like(slow), [x, *layer.parameters()]
    gradients = [torch.autograd.grad((out * target).sum(), leaves) for out in (fast, slow)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gate", ["none", "uniform", "static"])
def test_grouped_convolutions_without_a_gate(gate):
    layer = SparseConv2d(6, 4, 3, groups=2, sparsity_groups=3, gate=gate, dtype=torch.float64)
    k = layer.sparsity_groups
    kernel, bias = layer.weight.view(k, 4, 3, 3, 3).mean(dim=0), layer.bias.view(k, 4).mean(dim=0)
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, bias, groups=2), rtol=0, atol=1e-13)


def test_softmax_gate_is_equation_7():
    """gamma_i = exp(z_i / tau) / sum_j exp(z_j / tau), z the linear layer of the pooled input."""
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, sparsity_groups=4, cardinality=2, tau=0.5).double()
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    logits = x.mean(dim=(2, 3)) @ layer.gate.linear.weight.T + layer.gate.linear.bias  # (B, k * d)
    powers = (logits.reshape(2, 4, 2) / 0.5).exp()
    torch.testing.assert_close(layer.gate(x), powers / powers.sum(dim=1, keepdim=True), rtol=0, atol=1e-14)


@pytest.mark.parametrize("large", [0, 2**62], ids=["sample by sample", "all at once"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_mean_of_half_precision_is_taken_in_full(monkeypatch, large, layout):
    monkeypatch.setattr(gates, "LARGE", large)
    x = torch.rand(3, 5, 64, 64).bfloat16().to(memory_format=layout)
    pooled = gates.Pool.apply(x)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), x.double().mean(dim=(2, 3)), rtol=1e-6, atol=0)


def test_gumbel_is_one_hot_samples_in_training_and_the_largest_group_when_evaluating():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, sparsity_groups=4, cardinality=2, gate="gumbel")
    x = torch.randn(500, 5, 4, 4)
    sampled = layer.train().gate(x)
    assert set(sampled.unique().round(decimals=5).tolist()) == {0.0, 1.0}
    assert (sampled.sum(dim=1) - 1).abs().max() < 1e-5
    layer.gate.linear.weight.data.zero_()  # equal logits for all: every group is drawn about equally often
    layer.gate.linear.bias.data.zero_()
    shares = layer.gate(x).mean(dim=(0, 2))
    assert shares.min() > 0.2
    evaluated = layer.eval().gate(x)
    logits = layer.gate.linear(x.mean(dim=(2, 3))).view(500, 4, 2)
    assert torch.equal(evaluated.argmax(dim=1), logits.argmax(dim=1))
    assert evaluated.unique().tolist() == [0.0, 1.0]


def test_gumbel_passes_a_gradient_straight_through():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, gate="gumbel")
    layer(torch.randn(4, 5, 6, 6)).square().mean().backward()
    assert layer.gate.linear.weight.grad.abs().max() > 0


def test_without_a_gate_it_is_a_plain_convolution():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, padding=1, gate="none", sparsity_groups=4)
    x = torch.randn(2, 5, 7, 7)
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    assert layer.weight.shape == (8, 5, 3, 3)


def test_a_sample_does_not_depend_on_the_others_of_its_batch():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, padding=1, cardinality=4)
    x = torch.randn(3, 5, 7, 7)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_ways_agree_under_autocast(dtype):
    torch.manual_seed(0)
    layer, found = SparseConv2d(5, 8, 3, padding="same", cardinality=4), []
    x = torch.randn(3, 5, 9, 7)
    for layer.way in per_sample.EVERYWHERE:
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype):
            out = layer(leaf)
        found.append([out, *torch.autograd.grad(out.float().square().sum(), [leaf, *layer.parameters()])])
    for groups, *others in zip(*found, strict=True):
        for other in others:
            assert other.dtype == groups.dtype
            torch.testing.assert_close(other.float(), groups.float(), rtol=0.05, atol=0.05 * groups.abs().max().item())


def test_a_way_is_taken_that_is_asked_for():
    torch.manual_seed(0)
    layer, x = SparseConv2d(8, 8, 3, padding=1, way="one by one"), torch.rand(2, 8, 6, 6)
    one = layer(x)
    layer.way = "as groups"
    groups = layer(x)
    assert one.is_contiguous(memory_format=torch.channels_last) and groups.is_contiguous()
    torch.testing.assert_close(one, groups)
    with pytest.raises(ValueError, match="^way=fused: expected stride 1, one group, 16 or 32 bits, Triton and a GPU"):
        SparseConv2d(8, 8, 3, way="fused")(x)


def test_an_empty_batch_with_the_gate_of_another_layer():
    layer = SparseConv2d(5, 8, 3, own_gate=False, sparsity_groups=2)
    assert layer(torch.zeros(0, 5, 9, 7), torch.zeros(0, 2, 1)).shape == (0, 8, 7, 5)


def test_a_one_hot_gate_selects_a_group():
    weight = torch.arange(12.0).view(6, 2)  # k = 3, C_out = 2
    gate = torch.tensor([[[0.0], [1.0], [0.0]]])
    assert torch.equal(mix_kernels(weight, gate), weight[None, 2:4])


def test_reflection_padding_matches_the_plain_convolution():
    torch.manual_seed(0)
    layer = SparseConv2d(3, 4, 3, padding=1, padding_mode="reflect", sparsity_groups=1)  # softmax over one: 1
    x = torch.randn(2, 3, 6, 6)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_weight_normalisation_applies_to_every_kernel_of_every_group():
    layer = weight_norm(SparseConv2d(3, 4, 3, sparsity_groups=3), dim=0)
    assert layer.parametrizations.weight.original0.shape == (12, 1, 1, 1)
    assert layer(torch.randn(2, 3, 5, 5)).shape == (2, 4, 3, 3)


def test_it_trains_under_bfloat16_autocast_with_gates_in_float32():
    layer = SparseConv2d(5, 8, 3)
    x = torch.randn(2, 5, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.gate(x).dtype == torch.float32
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_a_sample_without_a_batch_is_a_batch_of_one(gate, padding_mode):
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, padding=1, padding_mode=padding_mode, cardinality=4, gate=gate).eval()
    x = torch.randn(5, 6, 7)
    torch.testing.assert_close(layer(x), layer(x[None])[0], rtol=0, atol=0)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("cardinality", [4, 3])
def test_an_empty_batch_gives_an_empty_batch_and_zero_gradients(gate, cardinality):
    layer = SparseConv2d(5, 8, 3, stride=2, cardinality=cardinality, gate=gate)
    plain = nn.Conv2d(5, 8, 3, stride=2)
    x = torch.zeros(0, 5, 9, 7, requires_grad=True)
    out = layer(x)
    assert out.shape == plain(x).shape
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad.abs().max() == 0 for p in layer.parameters())


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.half, 0.01), (torch.bfloat16, 0.05), (torch.double, 1e-5)])
def test_a_module_of_another_precision(gate, dtype, tolerance):
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, padding=1, cardinality=3, gate=gate).eval()  # 3: unequal cardinal groups
    x = torch.randn(2, 5, 6, 6)
    expected = layer(x)
    out = layer.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    if layer.is_gated:
        assert layer.gate(x.to(dtype)).dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=tolerance)
    out.float().square().sum().backward()
    assert layer.weight.grad.dtype == dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "softmx"}, f"no gate 'softmx'; there are: {', '.join(GATES)}, or your function as module.function"),
        ({"gate_hidden": -1}, "gate_hidden=-1: expected at least 0, for a gate without a hidden layer"),
        ({"tau": float("inf")}, "tau=inf: the gate's temperature is above 0"),
        ({"groups": 3, "sparsity_groups": 3}, "groups=3: expected a divisor of the layer's 8 output channels"),
        ({"groups": 0}, "groups=0: expected a divisor of the layer's 8 output channels"),
        ({"cardinality": 0}, "cardinality=0: the number of cardinal groups is at least 1"),
        ({"sparsity_groups": 0}, "sparsity_groups=0: the number of sparsity groups is at least 1"),
        ({"cardinality": 999}, "cardinality=999: expected 1 to 8, the layer's output channels"),
        ({"tau": -1}, "tau=-1: the gate's temperature is above 0"),
        ({"way": "fast"}, "way=fast: expected one of as groups, one by one, as products, fused"),
    ],
)
def test_settings_that_make_no_layer_are_refused(settings, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(") + "$"):
        SparseConv2d(5, 8, 3, **settings)


def test_a_hidden_layer_in_the_gate():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, sparsity_groups=4, cardinality=2, gate_hidden=7).double()
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    gate = layer.gate
    hidden = (x.mean(dim=(2, 3)) @ gate.hidden.weight.T + gate.hidden.bias).clamp(min=0)
    logits = (hidden @ gate.linear.weight.T + gate.linear.bias).view(2, 4, 2)
    torch.testing.assert_close(gate(x), torch.softmax(logits, dim=1), rtol=0, atol=1e-14)


def test_a_learned_temperature_starts_at_tau_stays_positive_and_gets_a_gradient():
    torch.manual_seed(0)
    fixed, learned = (SparseConv2d(5, 8, 3, tau=0.5, learn_tau=learn) for learn in (False, True))
    learned.load_state_dict(fixed.state_dict(), strict=False)
    x = torch.randn(2, 5, 6, 6)
    torch.testing.assert_close(learned(x), fixed(x))
    assert "tau=0.5, learn_tau=True\n" in repr(learned) and "tau=0.5\n" in repr(fixed)
    learned(x).square().sum().backward()
    assert learned.gate.log_tau.grad.abs() > 0
    learned.gate.log_tau.data -= 5  # however far it is pushed down
    assert torch.isfinite(learned.gate(x)).all() and learned.gate(x).max() > fixed.gate(x).max()


def test_the_temperature_may_change_at_any_time():
    torch.manual_seed(0)
    layer, other = SparseConv2d(5, 8, 3, tau=2.0), SparseConv2d(5, 8, 3, tau=0.1)
    other.load_state_dict(layer.state_dict())
    layer.gate.tau, x = 0.1, torch.randn(2, 5, 6, 6)
    assert torch.equal(layer(x), other(x)) and "tau=0.1\n" in repr(layer)


def test_the_gate_of_another_layer_takes_the_place_of_its_own():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, own_gate=False, sparsity_groups=2)
    assert layer.gate is None
    x, gate = torch.randn(2, 5, 6, 6), torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    first, second = layer.weight.chunk(2), layer.bias.chunk(2)
    expected = torch.cat([F.conv2d(x[i : i + 1], first[i], second[i]) for i in range(2)])
    torch.testing.assert_close(layer(x, gate), expected)
    expected = r"expected the gate of another layer, \(B, k, d\) with \(B, k\) = \(2, 2\)$"
    for wrong in (gate[:, :1], gate[:1], gate[0]):  # once an output of twice the channels, or of half the samples
        with pytest.raises(ValueError, match=rf"^a gate of shape {re.escape(str(tuple(wrong.shape)))}: {expected}"):
            layer(x, wrong)
    with pytest.raises(ValueError, match=f"^own_gate=False: {expected}"):
        layer(x)


@pytest.mark.parametrize("way", [None, *per_sample.EVERYWHERE])
def test_mixing_weights_of_another_batch_are_refused(way):
    layer = SparseConv2d(5, 8, 3, sparsity_groups=2, way=way)
    x = torch.randn(4, 5, 6, 6)
    for samples in (1, 2, 8):  # 8 channels, which are divisible by the batch: once the samples' outputs were mixed up
        with pytest.raises(ValueError, match=rf"^a gate of shape \({samples}, 2, 1\): .* \(B, k\) = \(4, 2\)$"):
            layer(x, torch.rand(samples, 2, 1))
        with pytest.raises(ValueError, match=rf"^a gate of shape \({samples}, 2, 1\): .* \(B, k\) = \(4, 2\)$"):
            layer(x, average=torch.rand(samples, 5))


@pytest.mark.parametrize("form", ["reduced", "exact"])
@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (0, 4, 6, 6), (4, 6, 6), (2, 5), (2, 5, 6, 6, 6)])
def test_inputs_of_other_shapes_are_named(form, shape):
    given = re.escape(str((1, *shape) if len(shape) == 3 else shape))
    with pytest.raises(ValueError, match=rf"^an input of shape {given}: expected \(B, 5, H, W\)$"):
        SparseConv2d(5, 8, 3, form=form)(torch.zeros(shape))
