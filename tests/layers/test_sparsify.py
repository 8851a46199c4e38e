"""Surgery on other people's networks."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import sparsify


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(weight_norm(nn.Conv2d(8, 8, 3, padding=1)), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2)),
        nn.ConvTranspose2d(8, 3, 2, stride=2),
    )


def test_swaps_convolutions_and_leaves_grouped_and_transposed_ones():
    model = small_network()
    assert sparsify(model, sparsity_groups=2, cardinality=4) == ["0", "1.0"]
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


def test_fresh_groups_are_distinct():
    model = small_network()
    sparsify(model, sparsity_groups=2)
    first, second = model[0].weight.chunk(2)
    assert not torch.equal(first, second)


def test_where_chooses_and_a_second_call_finds_nothing_new():
    model = small_network()
    assert sparsify(model, where=lambda name, conv: name == "0") == ["0"]
    with pytest.raises(ValueError, match="Sequential has no plain convolution that `where` admits"):
        sparsify(model, where=lambda name, conv: name == "0")


def test_a_convolution_used_twice_stays_one():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert sparsify(model) == ["0", "2"]
    assert model[0] is model[2]


def test_an_error_names_the_layer_and_changes_nothing():
    model = small_network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="^0: cardinality=0: the number of cardinal groups is at least 1"):
        sparsify(model, cardinality=0)
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
    assert sparsify(model) == ["0"]
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


def test_cardinality_is_at_most_the_channels_of_each_layer():
    model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1))
    assert sparsify(model, sparsity_groups=4, cardinality=16) == ["0", "2"]
    assert (model[0].cardinality, model[2].cardinality) == (16, 3)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)
