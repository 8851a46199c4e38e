"""Surgery on other people's networks."""

import copy
import doctest
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from nsr_cli.layers import sparsify as sparsify_module
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import Replaced, sparsify, summary
from nsr_cli.layers.sparsity import Sparsity
from nsr_cli.models.edsr import EDSR


def names(layers: list[Replaced]) -> list[str]:
    return [name for layer in layers for name in layer.names]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(weight_norm(nn.Conv2d(8, 8, 3, padding=1)), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2)),
        nn.ConvTranspose2d(8, 3, 2, stride=2),
    )


def test_swaps_convolutions_and_leaves_grouped_and_transposed_ones():
    model = small_network()
    assert names(sparsify(model, sparsity_groups=2, cardinality=4)) == ["0", "1.0"]
    assert isinstance(model[0], SparseConv2d) and isinstance(model[1][0], SparseConv2d)
    assert type(model[1][2]) is nn.Conv2d and type(model[2]) is nn.ConvTranspose2d
    assert model[1][0].parametrizations.weight.original0.shape == (16, 1, 1, 1)  # still weight-normalised
    model(torch.randn(2, 3, 8, 8)).sum().backward()


def test_kept_weights_compute_what_the_network_did_before():
    model = small_network()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    sparsify(model, keep_weights=True)
    torch.testing.assert_close(model(x), before)


def tied(normalised: bool) -> nn.Sequential:
    """Three convolutions, the first and the last of one weight."""
    network = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)))
    if normalised:
        network = nn.Sequential(*map(weight_norm, network))
        for name in ("original0", "original1"):
            setattr(network[2].parametrizations.weight, name, getattr(network[0].parametrizations.weight, name))
    else:
        network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(("gate", "alike"), [("uniform", True), ("static", True), ("softmax", False)])
def test_kept_weights_part_in_training_only_where_a_gate_weighs_them_differently(gate, alike):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    sparsify(model, 2, gate=gate, keep_weights=True)
    model(torch.rand(2, 3, 5, 5)).square().sum().backward()
    first, second = model[0].weight.grad.chunk(2)
    assert torch.equal(first, second) == alike


@pytest.mark.parametrize("normalised", [False, True])
def test_tied_convolutions_stay_tied(normalised):
    """Once each got kernels of its own, and a network more parameters than it was built with."""
    network, x = tied(normalised), torch.rand(2, 4, 6, 6)
    before = network(x)
    sparsify(network, sparsity_groups=2, keep_weights=True)
    torch.testing.assert_close(network(x), before)
    weights = [
        p for name, p in network.named_parameters(remove_duplicate=False) if "gate" not in name and "bias" not in name
    ]
    assert len({id(p) for p in weights}) == (4 if normalised else 2)
    network(x).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert torch.equal(network[0].weight, network[2].weight) and not torch.equal(network[0].bias, network[2].bias)


def test_half_of_two_tied_convolutions_is_not_replaced():
    network = tied(normalised=False)
    with pytest.raises(ValueError, match="0 shares its weight with 2, which is not replaced"):
        sparsify(network, where=lambda name, conv: name == "0")
    assert type(network[0]) is nn.Conv2d


def test_fresh_groups_are_distinct():
    model = small_network()
    sparsify(model, sparsity_groups=2)
    first, second = model[0].weight.chunk(2)
    assert not torch.equal(first, second)


def test_where_chooses_and_a_second_call_finds_nothing_new():
    model = small_network()
    assert names(sparsify(model, where=lambda name, conv: name == "0")) == ["0"]
    with pytest.raises(ValueError, match="Sequential has no plain convolution that `where` admits"):
        sparsify(model, where=lambda name, conv: name == "0")


def test_a_convolution_used_twice_stays_one():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    (layer,) = sparsify(model)
    assert layer.names == ("0", "2") and model[0] is model[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cardinality": 0}, "cardinality=0: the number of cardinal groups is at least 1"),
        ({"form": "full"}, "form=full: expected one of reduced, exact"),
        ({"gate": "uniform", "inference": "hard"}, "inference=hard: the groups of gate=uniform weigh the same; .*"),
    ],
)
def test_an_error_changes_nothing(settings, message):
    model = small_network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"^{message}$"):
        sparsify(model, **settings)
    assert type(model[0]) is nn.Conv2d and model.state_dict().keys() == before.keys()


def test_a_lone_convolution_is_refused():
    with pytest.raises(ValueError, match="Conv2d is itself a convolution"):
        sparsify(nn.Conv2d(3, 3, 3))


def old_weight_norm(conv: nn.Conv2d) -> nn.Conv2d:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in published networks
        return torch.nn.utils.weight_norm(conv)


def positive_bias(conv: nn.Conv2d) -> nn.Conv2d:
    parametrize.register_parametrization(conv, "bias", nn.Softplus())
    return conv


def twice_normalised(conv: nn.Conv2d) -> nn.Conv2d:
    return spectral_norm(weight_norm(conv))


def pruned(conv: nn.Conv2d) -> nn.Conv2d:
    return prune.l1_unstructured(conv, "weight", 0.5)


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True), self.bias)


def standardised(conv: nn.Conv2d) -> nn.Conv2d:
    return Standardised(conv.in_channels, conv.out_channels, conv.kernel_size)


def normalised_with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    return positive_bias(weight_norm(conv))


@pytest.mark.parametrize(
    "made",
    [
        spectral_norm,
        orthogonal,
        twice_normalised,
        positive_bias,
        normalised_with_bias,
        old_weight_norm,
        torch.nn.utils.spectral_norm,
        pruned,
        standardised,
    ],
)
def test_convolutions_of_another_kind_are_left_alone(made):
    torch.manual_seed(0)
    other = made(nn.Conv2d(4, 4, 3))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), other).eval()
    before = other(torch.ones(1, 4, 5, 5))
    assert names(sparsify(model)) == ["0"]
    assert model[1] is other
    assert torch.equal(other(torch.ones(1, 4, 5, 5)), before)
    with pytest.raises(ValueError, match="Sequential has no plain convolution that `where` admits"):
        sparsify(nn.Sequential(other))


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_normalisation_stays_along_its_axis(dim):
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3), dim=dim))
    x = torch.randn(2, 3, 6, 6)
    before = model(x)
    sparsify(model, keep_weights=True)
    torch.testing.assert_close(model(x), before)
    lengths = model[0].parametrizations.weight.original0
    assert lengths.shape == {0: (16, 1, 1, 1), 1: (1, 3, 1, 1), None: ()}[dim]


def test_kept_weights_that_were_frozen_stay_frozen():
    """Once a frozen backbone was trained again; its gates are trained."""
    model = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3))
    model[0].requires_grad_(False)
    model[1].bias.requires_grad_(False)
    sparsify(model, keep_weights=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    gates = {f"{layer}.gate.linear.{name}" for layer in "01" for name in ("weight", "bias")}
    assert trained == gates | {"1.weight"}


def test_cardinality_is_at_most_the_channels_of_each_layer():
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1))
    assert names(sparsify(model, sparsity_groups=4, cardinality=16)) == ["0", "2"]
    assert (model[0].cardinality, model[2].cardinality) == (16, 3)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)


def test_every_knob_of_the_layer_reaches_it():
    model = small_network()
    knobs = {"gate_hidden": 5, "learn_tau": True, "form": "exact", "tau": 0.5, "gate": "sigmoid"}
    sparsify(model, 3, 2, **knobs, inference="hard")
    layer = model[0]
    assert layer.sparsity == Sparsity(3, 2, **knobs) and layer.inference == "hard"
    assert layer.gate.hidden.out_features == 5 and layer.gate.log_tau is not None


class ResidualBlock(nn.Module):
    """As in torchvision's ResNets: batch normalisation, no biases, a strided convolution beside."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.downsample = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class UNet(nn.Module):
    """One level: down by pooling, up by a transposed convolution, with a skip connection."""

    def __init__(self):
        super().__init__()
        self.down, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 3, 3, padding="same")

    def forward(self, x):
        fine = F.leaky_relu(self.down(x))
        coarse = F.leaky_relu(self.middle(F.max_pool2d(fine, 2)))
        return self.out(torch.cat([fine, self.up(coarse)], dim=1))


def timm_resnet() -> nn.Module:
    return pytest.importorskip("timm").create_model("resnet18", num_classes=4, zero_init_last=False)


NETWORKS = {
    "ResNet block": (ResidualBlock, 8, 3),
    "U-Net": (UNet, 3, 3),
    "EDSR": (lambda: EDSR(2, blocks=2, units=8), 3, 8),
    "timm": (timm_resnet, 3, 20),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_that_people_use(network):
    """The kept weights compute the same; every gate is trained; the summary's numbers are those of the network."""
    torch.manual_seed(0)
    make, channels, replaced = NETWORKS[network]
    model, x = make().eval(), torch.rand(2, channels, 32, 32)
    with torch.no_grad():
        expected = model(x)
    parameters = sum(p.numel() for p in model.parameters())
    layers = sparsify(model, 3, 2, keep_weights=True)
    assert len(layers) == replaced
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    more = sum(layer.parameters[1] - layer.parameters[0] for layer in layers)
    assert sum(p.numel() for p in model.parameters()) == parameters + more
    for layer in layers:  # distinct kernels: gates of alike ones get no gradient
        nn.init.normal_(model.get_submodule(layer.names[0]).weight, std=0.1)
    model.train()(x).square().mean().backward()
    assert all(model.get_submodule(layer.names[0]).gate.linear.weight.grad.abs().max() > 0 for layer in layers)


def test_the_example_in_the_documentation():
    found = doctest.testmod(sparsify_module)
    assert found.attempted > 5 and found.failed == 0


def test_the_summary_is_a_table_with_sums():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False))
    rows = summary(sparsify(model, 4, 2)).splitlines()
    cells = [row.split() for row in rows[2:]]
    # k (C_out C_in kh kw + C_out) and the gate's (C_in + 1) k d; C_out C_in kh kw; C_in k d and k C_out C_in kh kw
    assert cells[0] == ["0", "8x3x3x3", "224", "928", "216", "216", "888"]
    assert cells[1] == ["2", "8x8x1x1", "64", "328", "64", "64", "320"]
    assert cells[2] == ["2", "layers", "288", "1,256", "1,208"]


def test_the_summary_of_the_exact_form_shows_its_cost():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    assert [layer.macs for layer in sparsify(model, 4, form="exact")] == [(216, 864), (576, 2304)]
