"""The released code's way to cut images, against one tile at a time.

The reference was written from that code's arithmetic: for a side of ``n`` pixels, reflected by 4 at both ends, tiles
begin at every 32nd pixel while they fit; what is left over is halved between the ends of the inner grid; along each
edge lies one more row or column of tiles, of weight 0.3, with what is left over at its far end or at its near one.
"""

import numpy as np
import pytest
import torch
from torch.nn.functional import pixel_shuffle

from nsr_cli.models.authors_tiling import AuthorsTiling, restore_as_authors
from nsr_cli.models.wdsr import WDSR

SIDE, MARGIN, STRIDE = 48, 4, 32


def network(scale: int, channels: int = 3) -> WDSR:
    torch.manual_seed(0)
    sparsity = {"gate": "softmax", "sparsity_groups": 2, "cardinality": 2}
    made = WDSR(scale, channels, blocks=1, units=4, width=1, **sparsity).eval()
    for block in made.body:  # gates that differ from tile to tile
        block.conv1.gate.linear.weight.data.mul_(30)
    return made


def image(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def places(length: int) -> tuple[int, int]:
    """Tiles along a side, and pixels left over."""
    count = 0
    while count * STRIDE + SIDE <= length + 2 * MARGIN:
        count += 1
    return count, length + 2 * MARGIN - (count - 1) * STRIDE - SIDE


@torch.no_grad()
def plain(model: WDSR, picture: np.ndarray) -> np.ndarray:
    """One tile at a time; a reflected pixel is looked up by its number."""
    height, width, channels = picture.shape
    centred = picture.astype(np.float32) / 255 - 0.5

    def reflected(number: int, length: int) -> int:
        return -number if number < 0 else 2 * (length - 1) - number if number >= length else number

    (rows, below), (columns, right) = places(height), places(width)
    far_row, far_column = below + (rows - 1) * STRIDE, right + (columns - 1) * STRIDE
    tiles = [(below // 2 + i * STRIDE, right // 2 + j * STRIDE, 1) for i in range(rows) for j in range(columns)]
    for j in range(columns):
        tiles += [(0, j * STRIDE, 0.3), (far_row, right + j * STRIDE, 0.3)]
    for i in range(rows):
        tiles += [(i * STRIDE, far_column, 0.3), (below + i * STRIDE, 0, 0.3)]
    out = channels * model.scale**2
    total, weights = np.zeros((out, height, width)), np.zeros((height, width))
    for top, left, weight in tiles:
        ys = [reflected(top - MARGIN + i, height) for i in range(SIDE)]
        xs = [reflected(left - MARGIN + j, width) for j in range(SIDE)]
        tile = torch.from_numpy(centred[np.ix_(ys, xs)]).permute(2, 0, 1)[None]
        deep = model.tail(model.body(model.head(tile)))[0].numpy()
        for i in range(MARGIN, SIDE - MARGIN):
            y, x = top - MARGIN + i, left
            total[:, y, x : x + SIDE - 2 * MARGIN] += weight * deep[:, i, MARGIN : SIDE - MARGIN]
            weights[y, x : x + SIDE - 2 * MARGIN] += weight
    skip = model.skip(torch.from_numpy(centred).permute(2, 0, 1)[None])
    restored = torch.from_numpy(total / weights).float()[None] + skip
    return (pixel_shuffle(restored, model.scale) + 0.5)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("scale", "size", "channels"), [(2, (192, 192), 3), (2, (197, 230), 3), (3, (207, 201), 3), (1, (193, 192), 1)]
)
def test_images_are_cut_as_the_released_code_does(scale, size, channels):
    model, picture = network(scale, channels), image(*size, channels)
    found = restore_as_authors(model, picture, AuthorsTiling(SIDE, MARGIN, 8), pixels_at_once=20_000)
    np.testing.assert_allclose(found, plain(model, picture), atol=2e-6)


@torch.no_grad()
def test_an_image_with_a_side_of_less_than_four_tiles_is_restored_whole():
    model, picture = network(2), image(191, 300)
    whole = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(restore_as_authors(model, picture, AuthorsTiling(SIDE, MARGIN, 8)), whole, atol=1e-6)
    tiled = restore_as_authors(model, image(192, 300), AuthorsTiling(SIDE, MARGIN, 8))
    assert np.abs(tiled[:380] - whole[:380]).max() > 1e-3 and tiled.shape == (384, 600, 3)
