"""How gates are watched: entropy and use of their groups."""

import torch
from torch import nn

from nsr_cli.engine.gate_stats import gate_statistics
from nsr_cli.layers.sparse_conv import SparseConv2d


def layer(k: int = 4, bias: list[float] | None = None, **settings) -> SparseConv2d:
    conv = SparseConv2d(3, 6, 3, sparsity_groups=k, **settings)
    nn.init.zeros_(conv.gate.linear.weight)
    conv.gate.linear.bias.data = torch.tensor(bias or [0.0] * len(conv.gate.linear.bias))
    return conv


def test_undecided_and_collapsed_gates():
    network = nn.Sequential(layer(), layer(bias=[0.0, 50.0, 0.0, 0.0]), nn.Conv2d(6, 3, 1))
    network[1] = layer(bias=[0.0, 50.0, 0.0, 0.0])
    network = nn.ModuleDict({"even": network[0], "collapsed": network[1]})
    network.forward = lambda x: (network["even"](x), network["collapsed"](x))
    found = gate_statistics(network, torch.rand(5, 3, 8, 8))
    assert found["even"]["entropy"] == 1.0
    assert found["collapsed"] == {"entropy": 0.0, "chosen": [0.0, 1.0, 0.0, 0.0]}


def test_use_is_counted_over_samples_and_cardinal_groups():
    conv = layer(k=2, cardinality=2, bias=[1.0, 0.0, 0.0, 1.0])  # group 0 in the first cardinal group, 1 in the second
    (found,) = gate_statistics(nn.Sequential(conv), torch.rand(3, 3, 8, 8)).values()
    assert found["chosen"] == [0.5, 0.5] and 0.5 < found["entropy"] < 1


def test_networks_without_a_choice_have_nothing_to_tell():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), SparseConv2d(6, 6, 3, gate="se"))
    assert gate_statistics(network, torch.rand(1, 3, 8, 8)) == {}


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(layer(gate="gumbel")).train()
    gate_statistics(network, torch.rand(2, 3, 8, 8))
    assert network.training and not network[0].gate._forward_hooks
    assert not any(p.grad is not None for p in network.parameters())
