"""WDSR and NSR networks: published sizes, start values, shapes."""

import pytest
import torch

from nsr_cli.engine.flops import count
from nsr_cli.models.tiled import tiling_of
from nsr_cli.models.wdsr import WDSR


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        # Sparse+ x2: 4,877,812 in the authors' README; the others counted on the authors' code (DESIGN.md)
        ({"units": 64, "width": 1, "sparsity_groups": 4, "cardinality": 16, "gate": "softmax"}, 4_877_812),
        ({"blocks": 2}, 153_428),
        ({"blocks": 4}, 301_524),
        ({"blocks": 8}, 597_716),
        ({"blocks": 16}, 1_190_100),
    ],
)
def test_parameters_are_the_published_ones(settings, parameters):
    assert sum(p.numel() for p in WDSR(scale=2, **settings).parameters()) == parameters


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        # millions of multiply-accumulates per input pixel, as the paper prints them
        ({"scale": 2, "blocks": 32, "units": 128, "width": 1, "gate": "softmax", "sparsity_groups": 4}, "9.5"),
        ({"scale": 1, "channels": 1, "width": 2}, "0.59"),
        ({"scale": 1, "channels": 1, "width": 1, "gate": "softmax", "sparsity_groups": 2}, "0.30"),
    ],
)
def test_multiply_accumulates_are_the_printed_ones(settings, printed):
    cost = count(WDSR(**settings), settings.get("channels", 3), tile=48)
    assert f"{cost.macs / 1e6:.{len(printed) - 2}f}" == printed


def test_gates_and_mixing_are_counted_apart():
    plain = count(WDSR(2, blocks=1, units=8, width=1), 3, tile=48)
    sparse = count(WDSR(2, blocks=1, units=8, width=1, gate="softmax", sparsity_groups=4, cardinality=2), 3, tile=48)
    assert sparse.macs == plain.macs and plain.overhead == 0
    gate, mixing = 8 * 4 * 2, 4 * 8 * 8 * 9  # C_in * k * d, and k * C_out * C_in * 3 * 3; for each of two convolutions
    assert sparse.overhead == pytest.approx(2 * (gate + mixing) / 48**2)


def test_initial_gains():
    network = WDSR(2, blocks=4, units=8, width=2, gate="softmax", sparsity_groups=2)
    for conv, gain in [(network.head, 1), (network.tail, 1), (network.skip, 1)]:
        torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), torch.full((conv.weight.shape[0],), float(gain)))
    for block in network.body:
        torch.testing.assert_close(block.conv1.weight.flatten(1).norm(dim=1), torch.full((32,), 2.0))
        torch.testing.assert_close(block.conv2.weight.flatten(1).norm(dim=1), torch.full((16,), 0.5))
        assert not block.conv1.bias.any() and not block.conv2.bias.any()


@pytest.mark.parametrize(("scale", "channels"), [(1, 1), (2, 3), (3, 3), (4, 3)])
def test_shapes(scale, channels):
    network = WDSR(scale, channels, blocks=1, units=4, width=1)
    assert network(torch.rand(2, channels, 7, 9)).shape == (2, channels, 7 * scale, 9 * scale)


def test_table_2_with_three_groups_has_42_channels_inside_a_block():
    network = WDSR(2, blocks=1, units=32, width=4 / 3, gate="softmax", sparsity_groups=3, cardinality=5)
    assert network.body[0].conv1.out_channels == 42
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)


def test_halo_bounds_what_a_pixel_sees():
    network = WDSR(2, blocks=2, units=4, width=1)
    x = torch.rand(1, 3, 31, 31, requires_grad=True)
    network(x)[0, 0, 30, 30].backward()  # the pixel above input pixel (15, 15)
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert 15 - network.halo <= rows.min() and rows.max() <= 15 + network.halo


@torch.no_grad()
def test_a_shared_gate_is_that_of_the_blocks_input_and_saves_its_parameters():
    torch.manual_seed(0)
    sparsity = {"blocks": 1, "units": 8, "width": 2, "gate": "softmax", "sparsity_groups": 2, "cardinality": 4}
    shared, apart = WDSR(2, shared_gate=True, **sparsity), WDSR(2, **sparsity)
    count_of = [sum(p.numel() for p in network.parameters()) for network in (shared, apart)]
    assert count_of[1] - count_of[0] == 16 * 2 * 4 + 2 * 4  # the second gate's weights and biases
    block, x = shared.body[0], torch.randn(3, 8, 6, 6)
    gate = block.conv1.gate(x)
    expected = x + block.conv2(torch.relu(block.conv1(x, gate)), gate)
    torch.testing.assert_close(block(x), expected)
    assert tiling_of(shared, 48).side == 48


def test_weighted_branches_cost_k_times_the_blocks():
    settings = {"blocks": 2, "units": 8, "width": 2, "gate": "softmax", "sparsity_groups": 4}
    reduced, exact, plain = (
        count(WDSR(1, 1, **kwargs), 1, tile=48)
        for kwargs in (settings, settings | {"form": "exact"}, {"blocks": 2, "units": 8, "width": 2})
    )
    blocks = 2 * 2 * 8 * 16 * 9  # multiply-accumulates per pixel inside of two blocks
    assert reduced.macs == plain.macs and exact.macs == plain.macs + 3 * blocks
    assert exact.overhead < reduced.overhead  # nothing is mixed


def test_squeeze_and_excitation_costs_what_plain_convolutions_do():
    """Figure 4's line: the same multiply-accumulates, and gates on top."""
    plain, excited = (count(WDSR(2, blocks=2, units=8, gate=gate), 3, 48) for gate in ("none", "se"))
    assert excited.macs == plain.macs and excited.overhead > 0 and excited.parameters > plain.parameters
