"""How gates are watched, against known answers: what they choose, and whether that depends on their input."""

import math

import pytest
import torch
from torch import Tensor, nn

from nsr_cli.engine.gate_stats import GateUse, gate_statistics
from nsr_cli.layers.sparse_conv import SparseConv2d

SURE = 1e4  # a logit beside zeros: one-hot in float32


def layer(weight: list[list[float]], bias: list[float] | None = None, **settings) -> SparseConv2d:
    """A sparse convolution whose logits are ``weight`` times the means of the input's channels, plus ``bias``."""
    settings = {"sparsity_groups": len(weight) // settings.get("cardinality", 1), **settings}
    conv = SparseConv2d(len(weight[0]), 6, 3, **settings)
    conv.gate.linear.weight.data = torch.tensor(weight)
    conv.gate.linear.bias.data = torch.tensor(bias or [0.0] * len(weight))
    return conv


def biased(bias: list[float], **settings) -> SparseConv2d:
    """One whose gate ignores its input."""
    return layer([[0.0] * 3] * len(bias), bias, **settings)


def flat(*means: tuple[float, ...]) -> Tensor:
    """Flat images with these channel means: (B, C, 8, 8)."""
    return torch.tensor(means, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 8, 8).clone()


def use_of(conv: SparseConv2d, x: Tensor) -> dict:
    (found,) = gate_statistics(nn.Sequential(conv), x).values()
    return found


@pytest.mark.parametrize("k", [2, 4])
def test_uniform_gates_use_all_groups_and_do_not_adapt(k):
    found = use_of(biased([0.0] * k), torch.rand(5, 3, 8, 8))
    assert (found["largest"], found["groups"]) == pytest.approx((1 / k, k)) and found["adaptivity"] == 0


def test_collapsed_gates_use_one_group_and_do_not_adapt():
    found = use_of(biased([0.0, SURE, 0.0, 0.0]), torch.rand(5, 3, 8, 8))
    assert found == {"largest": 1.0, "groups": 1.0, "adaptivity": 0.0, "chosen": [0.0, 1.0, 0.0, 0.0]}


@pytest.mark.parametrize("gate", ["softmax", "gumbel"])
def test_one_hot_gates_that_follow_the_input_adapt_by_the_entropy_of_their_choice(gate):
    follows = layer([[SURE, 0.0, 0.0], [0.0, SURE, 0.0], [0.0, 0.0, SURE]], gate=gate)
    x = flat((1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))  # shares 1/2, 1/4, 1/4: 1.5 bits
    assert use_of(follows, x) == {"largest": 1.0, "groups": 1.0, "adaptivity": 1.5, "chosen": [0.5, 0.25, 0.25]}


def test_soft_gates_that_follow_the_input_adapt_by_the_mutual_information():
    follows = layer([[math.log(3), 0.0], [0.0, math.log(3)]])  # weights 3/4 and 1/4, or the reverse
    found = use_of(follows, flat((1, 0), (0, 1)))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))  # bits; that of the mean weights is 1
    assert found["adaptivity"] == pytest.approx(1 - entropy, abs=1e-6)
    assert found["groups"] == pytest.approx(2**entropy, abs=1e-6) and found["largest"] == pytest.approx(0.75)
    assert found["chosen"] == [0.5, 0.5]


def test_sigmoid_weights_are_compared_by_their_shares():
    found = use_of(biased([math.log(3), math.log(1 / 3)], gate="sigmoid"), torch.rand(2, 3, 8, 8))  # 3/4 and 1/4
    assert found["largest"] == pytest.approx(0.75) and found["adaptivity"] == 0
    assert found["groups"] == pytest.approx(math.exp(0.562335), abs=1e-5)


def test_sigmoid_weights_that_underflow_have_finite_statistics():
    found = use_of(biased([-SURE] * 3, gate="sigmoid"), torch.rand(2, 3, 8, 8))
    assert all(math.isfinite(number) for number in (found["largest"], found["groups"], found["adaptivity"]))


def test_negative_weights_count_by_their_size():
    """As of tanh, a gate of one's own. Once the largest share was 1e37, the adaptivity NaN, and the choice wrong."""
    gate = biased([0.0, 0.0])
    gate.gate.activate = lambda logits, tau, training: logits * 0 + torch.tensor([[[-0.75], [0.25]]])
    found = use_of(gate, torch.rand(3, 3, 8, 8))
    of_sizes = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))  # the exponential of their entropy
    assert found == {"largest": 0.75, "groups": round(of_sizes, 6), "adaptivity": 0.0, "chosen": [0.0, 1.0]}


def test_cardinal_groups_count_alike():
    """Group 0 in the first one, group 1 in the second; neither looks at the input."""
    found = use_of(biased([SURE, 0.0, 0.0, SURE], cardinality=2), torch.rand(3, 3, 8, 8))
    assert found == {"largest": 1.0, "groups": 1.0, "adaptivity": 0.0, "chosen": [0.5, 0.5]}


def test_many_batches_tell_the_same_as_one():
    torch.manual_seed(0)
    network = nn.Sequential(SparseConv2d(3, 6, 3, sparsity_groups=4, cardinality=2)).eval()
    x = torch.randn(7, 3, 8, 8) * 5
    with GateUse(network) as use, torch.no_grad():
        for batch in x.split([1, 4, 2]):
            network(batch)
    (found,), (expected,) = use.statistics().values(), gate_statistics(network, x).values()
    assert found == expected and found["adaptivity"] > 0


def test_each_layer_is_told_by_its_name():
    network = nn.Sequential(biased([0.0, SURE]), nn.Conv2d(6, 3, 1), biased([SURE, 0.0]))
    found = gate_statistics(network, torch.rand(2, 3, 8, 8))
    assert {name: told["chosen"] for name, told in found.items()} == {"0": [0.0, 1.0], "2": [1.0, 0.0]}


def test_networks_without_a_choice_have_nothing_to_tell():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), SparseConv2d(6, 6, 3, gate="se"))
    assert gate_statistics(network, torch.rand(1, 3, 8, 8)) == {}
    assert GateUse(network).statistics() == GateUse(lambda x: x).statistics() == {}


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(biased([0.0] * 4, gate="gumbel")).train()
    gate_statistics(network, torch.rand(2, 3, 8, 8))
    assert network.training and not network[0].gate._forward_hooks
    assert not any(p.grad is not None for p in network.parameters())


def test_each_module_keeps_its_mode():
    network = nn.Sequential(biased([0.0, 0.0]), nn.BatchNorm2d(6))
    network[1].eval()
    gate_statistics(network, flat((1, 2, 3)))
    assert network.training and network[0].training and not network[1].training
