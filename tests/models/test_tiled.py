"""Tiled restoration: exact for plain networks, the protocol's for gated ones, in constant memory."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nsr_cli.models.tiled import Tiling, restore_bands, tiling_of
from nsr_cli.models.wdsr import WDSR


class Upscale(nn.Module):
    """Repeats pixels: what it restores tells where a tile came from."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.weight = scale, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


@torch.no_grad()
def whole(network, image, scale, tiling, **options):
    return np.concatenate(list(restore_bands(network, image, scale, tiling, **options)))


@pytest.mark.parametrize("size", [(7, 9), (20, 20), (21, 64), (50, 33), (131, 20)])
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("tiling", [Tiling(20, 4, 4), Tiling(20, 4, 0), Tiling(20, 0, 0), Tiling(21, 3, 5)])
def test_every_pixel_is_restored_once_whatever_the_cuts(size, scale, tiling):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = whole(Upscale(scale), image, scale, tiling, pixels_at_once=900)
    np.testing.assert_allclose(out * 255, image.repeat(scale, 0).repeat(scale, 1), atol=1e-4)


@torch.no_grad()
def test_plain_networks_do_not_notice_the_tiles():
    torch.manual_seed(0)
    network = WDSR(2, blocks=1, units=8, width=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (83, 71, 3), dtype=np.uint8)
    at_once = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
    tiling = Tiling(side=32, margin=network.halo, overlap=0)
    np.testing.assert_allclose(whole(network, image, 2, tiling), at_once, atol=1e-6)
    assert tiling_of(network) == tiling_of(network, side=48) == Tiling(512 + 2 * network.halo, network.halo, 0)


@torch.no_grad()
def test_gated_networks_follow_the_protocol():
    """48-pixel tiles, 4-pixel margins discarded at cuts, overlaps averaged: written out for two tiles in a row."""
    torch.manual_seed(0)
    network = WDSR(2, blocks=1, units=8, width=2, gate="softmax", sparsity_groups=2, cardinality=2).eval()
    tiling = tiling_of(network)
    assert tiling == Tiling(48, 4, 8)
    assert tiling.starts(48) == [0] and tiling.starts(80) == [0, 32] and tiling.starts(90) == [0, 32, 42]
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    left, right = (network(x[:, :, :, start : start + 48])[0].permute(1, 2, 0).numpy() for start in (0, 32))
    out = whole(network, image, 2, tiling)
    np.testing.assert_allclose(out[:, : 36 * 2], left[:, : 36 * 2], atol=1e-6)  # up to where the right tile counts
    np.testing.assert_allclose(out[:, 44 * 2 :], right[:, 12 * 2 :], atol=1e-6)  # from where the left one ends
    middle = (left[:, 36 * 2 : 44 * 2] + right[:, 4 * 2 : 12 * 2]) / 2
    np.testing.assert_allclose(out[:, 36 * 2 : 44 * 2], middle, atol=1e-6)
    assert np.abs(left[:, 36 * 2 : 44 * 2] - right[:, 4 * 2 : 12 * 2]).max() > 1e-4  # so the average is seen


def test_gates_decide_in_the_tile_that_they_were_trained_on_unless_another_is_asked_for():
    network = WDSR(2, blocks=1, units=8, width=1, gate="softmax", sparsity_groups=2)
    network.tile = 32
    assert tiling_of(network) == Tiling(32, 4, 8) and tiling_of(network, side=96) == Tiling(96, 4, 8)


def test_a_network_that_does_not_say_how_far_it_sees_is_given_whole_images():
    tiling, shapes = tiling_of(Upscale(2)), []
    network = Upscale(2)
    network.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    whole(network, np.zeros((400, 30), np.uint8), 2, tiling)
    assert shapes == [(1, 1, 400, 30)]


def test_tiles_without_overlap_are_cut_evenly():
    """A VDSR (halo 20) of B100's 481x321 pixels computes the image once, not 2.3 times."""
    assert [Tiling(552, 20, 0).side_of(n) for n in (321, 481, 552, 553)] == [321, 481, 552, 297]
    assert Tiling(552, 20, 0).starts(553) == [0, 256]
    for length in range(1, 900):
        side, starts = Tiling(100, 20, 0).side_of(length), Tiling(100, 20, 0).starts(length)
        assert side <= 100 and starts[0] == 0 and starts[-1] + side == length
        assert all(later - sooner <= side - 40 for sooner, later in itertools.pairwise(starts))
        assert len(starts) == 1 if length <= 100 else math.ceil((length - 40) / 60)


def test_bands_do_not_grow_with_the_image():
    heights = [len(band) for band in restore_bands(Upscale(2), np.zeros((400, 30), np.uint8), 2, Tiling(20, 4, 4))]
    assert sum(heights) == 800 and max(heights) <= 40
