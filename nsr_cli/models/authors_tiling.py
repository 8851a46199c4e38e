"""The tiling of the authors' released code, to reproduce the numbers that it prints for its checkpoints.

Beyond the image's edge the body sees the image reflected, and the skip sees zeros.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsr_cli.models.tiled import Tiling
from nsr_cli.models.wdsr import WDSR

WHOLE_BELOW = 4  # tiles along the shorter side; smaller images are restored whole
EDGE_WEIGHT = 0.3  # weight of the tiles along the image's edges; the others have weight 1


@dataclass(frozen=True)
class AuthorsTiling(Tiling):
    """The authors' tiles; the image is reflected by ``margin`` pixels beyond each edge."""

    def tiles(self, height: int, width: int) -> list[tuple[int, int, float]]:
        """First row, first column and weight of each tile, in pixels of the reflected image.

        A centred grid, then a row or a column of tiles along each edge, which cover the pixels that the grid omits.
        """
        stride = self.side - 2 * self.margin - self.overlap
        last_row, last_column = (length + 2 * self.margin - self.side for length in (height, width))
        rows, columns = (np.arange(0, last + 1, stride).tolist() for last in (last_row, last_column))
        below, right = last_row - rows[-1], last_column - columns[-1]  # pixels that the grid omits
        grid = [(y + below // 2, x + right // 2, 1.0) for y, x in product(rows, columns)]
        edges = [*((0, x) for x in columns), *((last_row, x + right) for x in columns)]
        edges += [*((y, last_column) for y in rows), *((y + below, 0) for y in rows)]
        return grid + [(y, x, EDGE_WEIGHT) for y, x in edges]


@torch.no_grad()
def restore_as_authors(
    network: WDSR, image: np.ndarray, tiling: AuthorsTiling, pixels_at_once: int = 2**16
) -> np.ndarray:
    """Restore an image: whole where a side is shorter than four tiles, else tile by tile.

    Args:
        network: with gates.
        image: degraded, (H, W) or (H, W, C), in 0..255, any dtype.
        tiling: the authors' tiles.
        pixels_at_once: pixels of the image in one call of the body.

    Returns:
        (H * scale, W * scale, C), float32 in [0, 1], not clipped.
    """
    device = next(network.parameters()).device
    x = torch.from_numpy(np.atleast_3d(image).astype(np.float32)).permute(2, 0, 1)[None].to(device) / 255
    height, width = x.shape[2:]
    if min(height, width) < WHOLE_BELOW * tiling.side:
        return _as_image(network(x))
    skip = network.skip(x - network.mean)
    reflected = F.pad(x - network.mean, [tiling.margin] * 4, mode="reflect")
    total, weights, kept = torch.zeros_like(skip), torch.zeros_like(skip[:, :1]), tiling.side - 2 * tiling.margin
    tiles, at_once = tiling.tiles(height, width), max(1, pixels_at_once // tiling.side**2)
    for first in range(0, len(tiles), at_once):
        batch = tiles[first : first + at_once]
        cut = [reflected[0, :, top : top + tiling.side, left : left + tiling.side] for top, left, _ in batch]
        deep = network.deep(torch.stack(cut))[..., tiling.margin : -tiling.margin, tiling.margin : -tiling.margin]
        for (top, left, weight), tile in zip(batch, deep, strict=True):
            total[0, :, top : top + kept, left : left + kept] += weight * tile
            weights[0, :, top : top + kept, left : left + kept] += weight
    return _as_image(network.combine(total / weights, skip))


def _as_image(restored: Tensor) -> np.ndarray:
    return restored[0].permute(1, 2, 0).float().cpu().numpy()
