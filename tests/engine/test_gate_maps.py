"""Gates over an image against the network's layers called one by one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nsr_cli.engine.gate_maps import TILES_AT_ONCE, gate_maps, second_gates
from nsr_cli.models.wdsr import WDSR


def network(**settings) -> WDSR:
    torch.manual_seed(0)
    return WDSR(2, blocks=2, units=4, width=2, gate="softmax", **{"sparsity_groups": 3, **settings}).eval()


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@torch.no_grad()
def gates_of_tile(net: WDSR, tile: np.ndarray) -> np.ndarray:
    """(blocks, k) of the first cardinal group, by the definition of a block."""
    x = net.head(torch.from_numpy(tile).permute(2, 0, 1)[None].float() / 255 - 0.5)
    found = []
    for block in net.body:
        shared = block.conv1.gate(x) if block.conv2.gate is None else None
        inside = F.relu(block.conv1(x, shared))
        gate = block.conv2.gate(inside) if shared is None else shared
        found.append(gate[0, :, 0])
        x = x + block.conv2(inside, gate)
    return torch.stack(found).numpy()


@pytest.mark.parametrize("settings", [{}, {"cardinality": 2}, {"shared_gate": True}])
def test_a_value_is_the_gate_of_the_tile_around_its_pixels(settings):
    net, picture, side, stride = network(**settings), image(45, 61), 12, 5
    maps = gate_maps(net, picture, side, stride)
    assert maps.shape == (2, 3, 9, 13) and maps.dtype == np.float32
    for row, column in ((2, 3), (6, 10), (3, 7)):
        top, left = (place * stride + stride // 2 - side // 2 for place in (row, column))
        expected = gates_of_tile(net, picture[top : top + side, left : left + side])
        np.testing.assert_allclose(maps[:, :, row, column], expected, atol=1e-6)
    assert np.ptp(maps) > 1e-3  # tiles differ
    np.testing.assert_allclose(maps.sum(axis=1), 1, atol=1e-6)


def test_tiles_beyond_the_edge_see_the_image_reflected():
    net, picture, side, stride = network(), image(30, 30), 12, 5
    maps = gate_maps(net, picture, side, stride)
    padded = np.pad(picture, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    for row, column in ((0, 0), (5, 5), (0, 4)):
        top, left = (20 + place * stride + stride // 2 - side // 2 for place in (row, column))
        expected = gates_of_tile(net, padded[top : top + side, left : left + side])
        np.testing.assert_allclose(maps[:, :, row, column], expected, atol=1e-6)


@pytest.mark.parametrize(("size", "stride", "cells"), [((20, 31), 4, (5, 8)), ((9, 8), 3, (3, 3)), ((5, 5), 1, (5, 5))])
def test_the_map_covers_the_image(size, stride, cells):
    assert gate_maps(network(), image(*size), 12, stride).shape[2:] == cells


def test_few_tiles_at_a_time_and_no_hook_is_left():
    net, sizes = network(), []
    net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    maps = gate_maps(net, image(60, 60), 12, 4)
    assert max(sizes) == TILES_AT_ONCE and sum(sizes) == 15 * 15 and maps.shape[2:] == (15, 15)
    assert not any(gate._forward_hooks for gate in second_gates(net))


def test_a_network_without_gates_has_none():
    assert second_gates(WDSR(2, blocks=1, units=4, width=1)) == []
    assert len(second_gates(network())) == 2
