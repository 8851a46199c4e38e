"""Memory layouts of networks."""

import copy

import torch
from torch import nn

from nsr_cli.layers.layout import set_layout


def test_a_network_with_tensors_of_five_dimensions_takes_a_layout():
    """As one that convolves the channels of an image in three dimensions; torch's own way refuses it."""
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(1, 2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    network.register_buffer("taps", torch.rand(1, 2, 3, 4))
    before = copy.deepcopy(network.state_dict())
    for layout in (torch.channels_last, torch.contiguous_format):
        set_layout(network, layout)
        assert network.taps.is_contiguous(memory_format=layout)
        assert network[2].weight.is_contiguous(memory_format=layout) and network[0].weight.is_contiguous()
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
