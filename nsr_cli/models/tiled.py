"""Restore large images in little memory: tile by tile, a band of rows at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.models.padding import padded

PAPER_PATCH = 48  # Sec. 4.1; for weights whose training patches are unknown


@dataclass(frozen=True)
class Tiling:
    """The tiles of an image, in pixels of the degraded image. Gates decide once for each tile, so tiles affect scores.

    Attributes:
        side: of a tile; the largest side if ``overlap`` is 0.
        margin: pixels that are discarded along each cut.
        overlap: pixels that the kept parts of neighbouring tiles share, which are averaged; 0 for adjoining tiles.
    """

    side: int
    margin: int
    overlap: int

    def side_of(self, length: int) -> int:
        """The side of the tiles along an image side of ``length``; without overlap, as small as their number allows."""
        if self.overlap:
            return min(self.side, length)
        if length <= self.side:
            return length
        inside = length - 2 * self.margin
        return math.ceil(inside / math.ceil(inside / (self.side - 2 * self.margin))) + 2 * self.margin

    def starts(self, length: int) -> list[int]:
        """First pixels of the tiles along an image side of ``length``; the last tile ends with the image."""
        side = self.side_of(length)
        return [*range(0, length - side, max(1, side - 2 * self.margin - self.overlap)), length - side]


def device_of(network: nn.Module) -> torch.device:
    """The device of a network; the CPU for one without parameters and buffers."""
    return next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))


def tiling_of(network: nn.Module, side: int | None = None) -> Tiling:
    """The tiling for a network.

    Networks with gates have tiles of their training patches' side, with margin 4 and overlap 8. Others have large
    tiles with a margin of their halo, which restore the same as the whole image; without a halo, one tile.

    Args:
        network: may have ``tile``, ``halo`` and ``enlarges`` (see nsr_cli.models).
        side: of the tiles of networks with gates, in place of ``tile``.
    """
    if any(isinstance(module, SparseConv2d) and module.is_gated for module in network.modules()):
        return Tiling(side=side or getattr(network, "tile", None) or PAPER_PATCH, margin=4, overlap=8)
    halo = getattr(network, "halo", None)
    if halo is None:
        return Tiling(side=2**20, margin=0, overlap=0)
    return Tiling(side=512 // getattr(network, "enlarges", 1) + 2 * halo, margin=halo, overlap=0)


def restore_bands(
    network: nn.Module, image: np.ndarray, scale: int, tiling: Tiling, pixels_at_once: int = 2**16
) -> Iterator[np.ndarray]:
    """Restore an image; yield bands of finished rows from top to bottom.

    Args:
        network: NCHW in [0, 1] to NCHW at ``scale`` times the size.
        image: degraded, (H, W) or (H, W, C); uint16 in 0..65535, any other dtype in 0..255.
        scale: of the network.
        tiling: of the image.
        pixels_at_once: pixels of the image in one call of the network.

    Yields:
        Bands (rows, W * scale, C), float32 in [0, 1], not clipped.
    """
    image = image[:, :, None] if image.ndim == 2 else image
    height, width, channels = image.shape
    rows, columns = tiling.starts(height), tiling.starts(width)
    side_y, side_x = tiling.side_of(height), tiling.side_of(width)
    at_once, peak = max(1, pixels_at_once // (side_y * side_x)), 65535 if image.dtype == np.uint16 else 255
    total = torch.zeros(channels, side_y * scale, width * scale)  # kept rows of tiles, from row `done` on
    covered = torch.zeros(side_y * scale, 1)  # how many rows of tiles were added to each
    done = 0  # rows of the image that were yielded
    for top, following in zip(rows, [*rows[1:], None], strict=True):
        strip = np.ascontiguousarray(image[top : top + side_y], dtype=np.float32)
        strip = torch.from_numpy(strip).permute(2, 0, 1) / peak  # (C, side_y, W)
        first = 0 if top == 0 else tiling.margin
        last = side_y if following is None else side_y - tiling.margin
        target = slice((top + first - done) * scale, (top + last - done) * scale)
        row = _restore_row(network, strip, columns, scale, tiling, at_once)
        total[:, target] += row[:, first * scale : last * scale]
        covered[target] += 1
        finished = ((height if following is None else following + tiling.margin) - done) * scale
        yield (total[:, :finished] / covered[:finished]).permute(1, 2, 0).numpy()
        for buffer in (total, covered):  # unfinished rows move to the front
            rest = buffer[..., finished:, :].clone()
            buffer.zero_()[..., : rest.shape[-2], :] = rest
        done += finished // scale


def _restore_row(
    network: nn.Module, strip: Tensor, columns: list[int], scale: int, tiling: Tiling, at_once: int
) -> Tensor:
    """Restore one row of tiles: (C, side, W) to (C, side * scale, W * scale), overlaps averaged."""
    device = device_of(network)
    channels, height, width = strip.shape
    side = tiling.side_of(width)
    total, covered = torch.zeros(channels, height * scale, width * scale), torch.zeros(width * scale)
    for begin in range(0, len(columns), at_once):
        lefts = columns[begin : begin + at_once]
        tiles = torch.stack([strip[:, :, left : left + side] for left in lefts]).to(device)
        for left, restored in zip(lefts, padded(network, tiles).float().cpu(), strict=True):
            first = 0 if left == 0 else tiling.margin
            last = side if left == columns[-1] else side - tiling.margin
            target = slice((left + first) * scale, (left + last) * scale)
            total[:, :, target] += restored[:, :, first * scale : last * scale]
            covered[target] += 1
    return total.div_(covered)
