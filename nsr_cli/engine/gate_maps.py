"""What the gates of a network choose, as maps over an image (Figure 5 of the paper)."""

import numpy as np
import torch
from torch import nn

from nsr_cli.layers.gates import Gate
from nsr_cli.layers.sparse_conv import is_gated
from nsr_cli.models.wdsr import Block

TILES_AT_ONCE = 64


def second_gates(network: nn.Module) -> list[Gate]:
    """The gate of the second convolution of each residual block, or the one that it shares with the first."""
    blocks = [module for module in network.modules() if isinstance(module, Block) and is_gated(module.conv2)]
    return [block.conv1.gate if block.conv2.gate is None else block.conv2.gate for block in blocks]


@torch.no_grad()
def gate_maps(network: nn.Module, image: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Mixing weights of the first cardinal group, for a tile around every ``stride``-th pixel of an image.

    Args:
        network: in evaluation mode, with gates (see second_gates).
        image: (H, W, C) that it is given, in 0..255; reflected at its edges.
        side: of a tile, in pixels of the image: that of the patches of its training.
        stride: in pixels of the image.

    Returns:
        (blocks, k, rows, columns) float32. The value at (row, column) belongs to the square of ``stride`` pixels that
        begins at pixel (row * stride, column * stride), and is that of the tile around the square's centre.
    """
    device, gates = next(network.parameters()).device, second_gates(network)
    rows, columns = (-(-length // stride) for length in image.shape[:2])
    edge = (side // 2, side + stride)
    padded = np.pad(image.astype(np.float32) / 255, (edge, edge, (0, 0)), mode="reflect").transpose(2, 0, 1)
    corners = [(r * stride + stride // 2, c * stride + stride // 2) for r in range(rows) for c in range(columns)]
    maps = np.empty((len(gates), gates[0].sparsity_groups, len(corners)), np.float32)
    found: dict[int, torch.Tensor] = {}
    hooks = [
        gate.register_forward_hook(lambda module, inputs, weights, block=block: found.update({block: weights}))
        for block, gate in enumerate(gates)
    ]
    try:
        for begin in range(0, len(corners), TILES_AT_ONCE):
            now = corners[begin : begin + TILES_AT_ONCE]
            tiles = np.stack([padded[:, top : top + side, left : left + side] for top, left in now])
            network(torch.from_numpy(tiles).to(device))
            for block, weights in found.items():  # (B, k, d)
                maps[block, :, begin : begin + len(now)] = weights[:, :, 0].T.cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return maps.reshape(*maps.shape[:2], rows, columns)
