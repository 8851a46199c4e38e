"""The controls: kernels that are mixed alike for every input, at the cost of a plain convolution."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.flop_counter import FlopCounterMode

from nsr_cli.engine.flops import count
from nsr_cli.engine.gate_maps import second_gates
from nsr_cli.engine.gate_stats import gate_statistics
from nsr_cli.layers.merge import merge, merged
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.models.edsr import EDSR
from nsr_cli.models.tiled import tiling_of
from nsr_cli.models.wdsr import WDSR


def control(gate: str, **settings) -> SparseConv2d:
    """A layer whose static weights, if any, differ."""
    torch.manual_seed(0)
    layer = SparseConv2d(5, 7, 3, **{"sparsity_groups": 3, "cardinality": 4, "gate": gate, "tau": 0.7, **settings})
    if gate == "static":
        nn.init.normal_(layer.gate.logits)
    return layer


def weights_by_definition(layer: SparseConv2d) -> torch.Tensor:
    """(k, C_out): the weight of each kernel, its cardinal group written out."""
    k, d, channels = layer.sparsity_groups, layer.cardinality, layer.out_channels
    if layer.gate is None:
        return torch.full((k, channels), 1 / k, dtype=layer.weight.dtype)
    powers = (layer.gate.logits / 0.7).exp()
    return torch.stack([powers[:, c * d // channels] / powers[:, c * d // channels].sum() for c in range(channels)], 1)


@pytest.mark.parametrize("gate", ["uniform", "static"])
@pytest.mark.parametrize("conv", [{"padding": 1}, {"stride": 2, "bias": False}, {"padding": "same", "dilation": 2}])
def test_values_and_gradients_are_those_of_the_definition(gate, conv):
    layer = control(gate, **conv).double()
    x = torch.randn(3, 5, 9, 8, dtype=torch.float64, requires_grad=True)
    weights = weights_by_definition(layer)  # (k, C_out)
    kernels, biases = layer.weight.view(3, 7, 5, 3, 3), layer.bias
    kernel = torch.stack([sum(weights[i, c] * kernels[i, c] for i in range(3)) for c in range(7)])
    bias = None if biases is None else torch.stack([sum(weights[:, c] * biases.view(3, 7)[:, c]) for c in range(7)])
    slow, fast = F.conv2d(x, kernel, bias, layer.stride, layer.padding, layer.dilation), layer(x)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    target = torch.randn_like(slow)
    found = [torch.autograd.grad((out * target).sum(), [x, *layer.parameters()]) for out in (fast, slow)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_uniform_has_no_gate_parameters_and_static_starts_as_uniform():
    uniform, static = control("uniform"), SparseConv2d(5, 7, 3, sparsity_groups=3, cardinality=4, gate="static")
    assert [*uniform.state_dict()] == ["weight", "bias"]
    assert static.gate.logits.shape == (3, 4) and not static.gate.logits.any()
    static.load_state_dict(uniform.state_dict(), strict=False)
    x = torch.randn(2, 5, 6, 6)
    torch.testing.assert_close(static(x), uniform(x))


@pytest.mark.parametrize("gate", ["uniform", "static"])
def test_they_run_one_convolution_of_the_whole_batch(gate):
    """Multiply-accumulates as PyTorch counts them: those of the plain convolution, for a batch of 5."""
    counted = []
    for layer in (control(gate), nn.Conv2d(5, 7, 3)):
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(5, 5, 9, 9))
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1]


@pytest.mark.parametrize("gate", ["uniform", "static"])
def test_a_network_of_controls_is_tiled_and_counted_as_one_without_gates(gate):
    sizes = {"blocks": 2, "units": 8, "width": 2}
    plain, network = WDSR(2, **sizes), WDSR(2, **sizes, gate=gate, sparsity_groups=3)
    assert tiling_of(network, 48) == tiling_of(plain, 48)
    ours, theirs = count(network, 3, 48), count(plain, 3, 48)
    assert (ours.macs, ours.overhead) == (theirs.macs, 0) and ours.parameters > theirs.parameters
    assert second_gates(network) == [] and gate_statistics(network, torch.rand(2, 3, 8, 8)) == {}


def test_hard_inference_of_static_weights_is_the_kernel_of_the_largest():
    layer = control("static", inference="hard").eval()
    chosen = layer.gate.logits.argmax(dim=0)[torch.arange(7) * 4 // 7]
    kernel = layer.weight.view(3, 7, 5, 3, 3)[chosen, torch.arange(7)]
    bias = layer.bias.view(3, 7)[chosen, torch.arange(7)]
    x = torch.randn(2, 5, 6, 6)
    assert torch.equal(layer(x), F.conv2d(x, kernel, bias))
    assert torch.equal(merge(layer)(x), layer(x))
    assert not torch.allclose(layer.train()(x), F.conv2d(x, kernel, bias))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "uniform", "form": "exact"}, "form=exact: gate=uniform does not look .*; expected form=reduced"),
        ({"gate": "static", "learn_tau": True}, "learn_tau=True: gate=static does not look .*expected learn_tau=False"),
        ({"gate": "static", "gate_hidden": 8}, "gate_hidden=8: gate=static does not look .*; expected gate_hidden=0"),
        ({"gate": "static", "own_gate": False}, "own_gate=False: gate=static does not look .*; expected own_gate=True"),
        ({"gate": "uniform", "inference": "hard"}, "inference=hard: the groups of gate=uniform weigh the same; .*"),
    ],
)
def test_knobs_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SparseConv2d(5, 8, 3, **settings)


def test_inference_is_checked_when_it_is_changed():
    layer = control("uniform")
    with pytest.raises(ValueError, match="^inference=hard: the groups of gate=uniform"):
        layer.inference = "hard"
    assert layer.inference == "soft"


@pytest.mark.parametrize("gate", ["none", "uniform", "static"])
def test_no_gate_is_shared_that_does_not_look_at_its_input(gate):
    with pytest.raises(ValueError, match=f"^shared_gate=True: gate={gate} does not look at its input; expected"):
        WDSR(2, blocks=1, units=4, gate=gate, shared_gate=True)


@pytest.mark.parametrize("gate", ["none", "uniform", "static"])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("conv", [{"padding": 1, "padding_mode": "reflect"}, {"stride": 2, "bias": False}])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_merged_layers_compute_the_same_bits(gate, normalised, conv, layout):
    layer = control(gate, **conv).to(memory_format=layout)
    layer = weight_norm(layer) if normalised else layer
    x, before, drawn = torch.randn(2, 5, 8, 9), copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    plain = merge(layer)
    assert type(plain) is nn.Conv2d and plain.weight.shape == (7, 5, 3, 3)
    assert torch.equal(plain(x), layer(x)) and torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_weight_normalisation_of_a_plain_grouped_convolution_is_folded():
    conv = weight_norm(nn.Conv2d(4, 6, 3, padding=1, groups=2)).double()
    plain, x = merge(conv), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    assert [*plain.state_dict()] == ["weight", "bias"] and torch.equal(plain(x), conv(x))


def positive_bias(conv: nn.Conv2d) -> nn.Conv2d:
    parametrize.register_parametrization(conv, "bias", nn.Softplus())
    return conv


def hooked(conv: nn.Conv2d) -> nn.Conv2d:
    conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    return conv


@torch.no_grad()
def old_spectral_norm(conv: nn.Conv2d) -> nn.Conv2d:
    return torch.nn.utils.spectral_norm(conv)


@pytest.mark.parametrize("made", [spectral_norm, positive_bias, hooked, old_spectral_norm])
def test_other_parametrisations_and_hooks_stay(made):
    """Once the hooks were dropped, and the weight that the older spectral norm had left was taken for the kernel."""
    network = nn.Sequential(made(nn.Conv2d(2, 3, 3)), weight_norm(nn.Linear(4, 4))).eval()
    plain, x = merged(network), torch.randn(1, 2, 6, 6)
    assert [type(m) for m in plain] == [type(m) for m in network] and torch.equal(plain(x), network(x))


def test_input_dependent_kernels_are_not_merged():
    with pytest.raises(ValueError, match="^gate=softmax: expected a convolution whose kernel is the same for every"):
        merge(SparseConv2d(5, 8, 3))
    with pytest.raises(ValueError, match="^Linear: expected a convolution"):
        merge(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="^Conv2d: expected .*, without hooks$"):
        merge(hooked(nn.Conv2d(2, 2, 1)))


@pytest.mark.parametrize("gate", ["none", "uniform", "static", "softmax", "se"])
@torch.no_grad()
def test_a_merged_network_computes_the_same_bits_without_weight_normalisation(gate):
    torch.manual_seed(0)
    network = WDSR(2, blocks=2, units=6, width=2, gate=gate, sparsity_groups=3, cardinality=2).eval()
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    before, x = [*network.state_dict()], torch.rand(2, 3, 9, 8)
    plain = merged(network)
    assert torch.equal(plain(x), network(x)) and not plain.training
    assert [*network.state_dict()] == before
    kinds = {type(module) for module in plain.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == ({nn.Conv2d, SparseConv2d} if gate in ("softmax", "se") else {nn.Conv2d})
    assert not any("original" in key for key in plain.state_dict())
    assert second_gates(plain) == [] or gate in ("softmax", "se")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_older_weight_norm_is_copied_in_the_midst_of_a_training():
    """Once torch refused to copy the weight that it keeps, which belongs to autograd's graph."""
    network, x = nn.Sequential(torch.nn.utils.weight_norm(nn.Conv2d(2, 3, 3))), torch.randn(1, 2, 6, 6)
    network(x).sum().backward()
    copied = merged(network)
    with torch.no_grad():
        before = network(x)
        for parameter in network.parameters():
            parameter.mul_(2)
    assert torch.equal(copied(x), before) and torch.equal(merged(network)(x), network(x)) and before.any()


def test_a_convolution_used_twice_stays_one_when_merged():
    shared = control("static", padding=1, sparsity_groups=2)
    network = nn.Sequential(nn.Conv2d(3, 5, 1), shared, nn.Conv2d(7, 5, 1), shared)
    plain, x = merged(network), torch.randn(1, 3, 6, 6)
    assert plain[1] is plain[3] and type(plain[1]) is nn.Conv2d and network[1] is shared
    assert torch.equal(plain(x), network(x))


def test_networks_of_others_are_copied_as_they_are():
    network = EDSR(2, blocks=1, units=4)
    plain, x = merged(network), torch.rand(1, 3, 6, 6)
    assert plain is not network and torch.equal(plain(x), network(x))
