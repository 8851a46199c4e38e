"""Multiply-accumulates of networks of others, which pool, reflect their borders, or fold channels into the batch."""

import torch.nn.functional as F
from torch import nn

from nsr_cli.engine.flops import count


class Pooling(nn.Module):
    """Pads to multiples of 16 by reflection, pools four times, and convolves all along; each channel is a sample."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)])

    def forward(self, x):
        y = F.pad(x, [0, -x.shape[3] % 16, 0, -x.shape[2] % 16], mode="reflect").flatten(0, 1)[:, None]
        for conv in self.convs:
            y = F.max_pool2d(conv(y), 2) if conv is not self.convs[4] else conv(y)
        return F.interpolate(y, scale_factor=16)[:, 0].view(x.shape[0], x.shape[1], -1, y.shape[3] * 16)


def test_a_network_that_pools_is_counted_on_an_input_that_is_large_enough():
    """Once on 8x8 pixels, where it failed after its training, or counted the padding too."""
    cost = count(Pooling(), 3, 48)
    assert cost.macs == 3 * 9 * (1 + 1 / 4 + 1 / 16 + 1 / 64 + 1 / 256)  # three channels, 3x3 kernels, five sizes


def test_transposed_convolutions_and_those_of_other_dimensions_are_counted():
    """As FSRCNN's last layer, which multiplies each of its input's pixels with its whole kernel."""
    up = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ConvTranspose2d(5, 3, 9, stride=2, padding=4, output_padding=1))
    assert count(up, 3, 48).macs == 3 * 5 + 5 * 3 * 9 * 9
    depth = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 2, 3, padding=1), nn.Flatten(1, 2))
    assert count(depth, 3, 48).macs == 3 * 2 * 27  # three planes, two kernels


def test_a_frozen_batch_norm_stays_frozen():
    """Once a count put it into training mode."""
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
    network[1].eval()
    count(network, 3, 48)
    assert [module.training for module in network.modules()] == [True, True, False]
