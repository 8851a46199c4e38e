"""WNNM: denoising by weighted nuclear norm minimisation over groups of similar patches.

Gu, Zhang, Zuo, Feng, "Weighted Nuclear Norm Minimization with Application to Image Denoising" (CVPR 2014).
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from tqdm import tqdm

from nsr_cli.errors import UserError

REACH = 30  # pixels to each side: a reference patch is compared with up to 61x61 patches
DELTA = 0.1  # share of the removed residual that is added back before each iteration
WEIGHT = 2 * math.sqrt(2)  # c of the weights c sqrt(n) / singular value, Sec. 3
SEARCH_EVERY = 2  # iterations between two searches for groups
FEWER = 10  # patches that each search takes off a group

TILE = 16  # side of a tile in reference patches; the surroundings of one tile are in memory at once
BAND = 4  # rows of reference patches that are compared in one matrix product
BATCH = 64  # groups in one eigendecomposition; more do not fit the processor's cache


@dataclass(frozen=True)
class Settings:
    """The authors' settings for a range of noise levels."""

    patch: int  # pixels a side
    group: int  # patches in a group, before the first search takes FEWER off
    iterations: int
    trust: float  # lambda: factor of the re-estimated noise level

    @property
    def step(self) -> int:
        """Pixels from one reference patch to the next."""
        return max(1, self.patch // 2 - 1)


SETTINGS = {  # by the largest sigma of the range
    20: Settings(patch=6, group=70, iterations=8, trust=0.54),
    40: Settings(patch=7, group=90, iterations=12, trust=0.56),
    60: Settings(patch=8, group=120, iterations=14, trust=0.58),
    math.inf: Settings(patch=9, group=140, iterations=14, trust=0.58),
}


@dataclass(frozen=True)
class Tile:
    """Reference patches, and the region of all patches within their reach; positions are of a patch's first pixel."""

    rows: np.ndarray  # of the reference patches
    columns: np.ndarray
    top: int  # of the region: rows top to bottom - 1, columns left to right - 1
    bottom: int
    left: int
    right: int


def wnnm(x: Tensor, sigma: float) -> Tensor:
    """Remove white Gaussian noise of known strength, in the precision of ``x`` and on the CPU.

    Args:
        x: noisy grey images (B, 1, H, W), float32 or float64, nominally in [0, 1], neither clipped nor quantised.
        sigma: standard deviation of the noise in grey levels of 0..255.

    Returns:
        (B, 1, H, W), in the dtype and on the device of ``x``, not clipped.

    Raises:
        UserError: the images are not grey or smaller than a patch, or ``sigma`` is not positive.
    """
    if x.dim() != 4 or x.shape[1] != 1:
        raise UserError(f"WNNM restores grey images (B, 1, H, W); these are {tuple(x.shape)}")
    if not sigma > 0:
        raise UserError(f"WNNM removes noise of a sigma above 0, in grey levels of 0..255; sigma is {sigma:g}")
    settings = next(settings for limit, settings in SETTINGS.items() if sigma <= limit)
    if min(x.shape[2:]) < settings.patch:
        raise UserError(f"WNNM compares patches {settings.patch} pixels wide; these images are {tuple(x.shape)}")
    noisy = 255 * x.detach().cpu().to(torch.promote_types(x.dtype, torch.float32)).numpy()
    restored = [torch.from_numpy(denoise(image[0], sigma, settings)) for image in noisy]
    return torch.stack(restored).view(x.shape).to(x) / 255


def denoise(noisy: np.ndarray, sigma: float, settings: Settings) -> np.ndarray:
    """Denoise one image (H, W), grey levels of 0..255, float, by the iterations of Sec. 3.

    It works tile by tile. Memory grows with a few copies of the image, and 2 bytes for each patch of each group.
    """
    tiles = tiles_of(noisy.shape, settings)
    nearby = math.prod(min(REACH + 1, side - settings.patch + 1) for side in noisy.shape)  # within reach of a corner
    groups: list[np.ndarray] = [np.empty(0)] * len(tiles)
    estimate = noisy
    for iteration in tqdm(range(settings.iterations), "WNNM", leave=False, disable=None):
        estimate = estimate + noisy.dtype.type(DELTA) * (noisy - estimate)  # y_k = x_(k-1) + delta (y - x_(k-1))
        level = noise_level(noisy, estimate, sigma, settings) if iteration else np.full_like(noisy, sigma)
        total, weight = np.zeros_like(noisy), np.zeros_like(noisy)
        for number, tile in enumerate(tiles):
            table = patch_table(estimate, tile, settings.patch)
            if iteration % SEARCH_EVERY == 0:
                count = settings.group - FEWER * (1 + iteration // SEARCH_EVERY)
                groups[number] = similar_patches(table, tile, min(count, nearby))
            levels = level[np.ix_(tile.rows, tile.columns)].reshape(-1)
            sums, counts = restored_patches(table, groups[number].astype(np.int64), levels)
            add_patches(sums, counts, tile, total, weight)
        estimate = total / weight
    return estimate


def tiles_of(shape: tuple[int, int], settings: Settings) -> list[Tile]:
    """Tiles of an image (H, W): a reference patch at every step, and at each position after the last one."""
    height, width = (side - settings.patch + 1 for side in shape)
    rows, columns = (
        np.append(np.arange(0, last, settings.step), np.arange(last, side))
        for side in (height, width)
        for last in [(side - 1) // settings.step * settings.step + 1]
    )
    return [
        Tile(
            some_rows := rows[i : i + TILE],
            some_columns := columns[j : j + TILE],
            top=max(0, some_rows[0] - REACH),
            bottom=min(height, some_rows[-1] + REACH + 1),
            left=max(0, some_columns[0] - REACH),
            right=min(width, some_columns[-1] + REACH + 1),
        )
        for i in range(0, len(rows), TILE)
        for j in range(0, len(columns), TILE)
    ]


def noise_level(noisy: np.ndarray, estimate: np.ndarray, sigma: float, settings: Settings) -> np.ndarray:
    """The noise left in each patch of an estimate, by the patch's first pixel.

    lambda sqrt(|sigma^2 - mean (y - y_k)^2|), in grey levels: (H - patch + 1, W - patch + 1).
    """
    removed = sliding_window_view((noisy - estimate) ** 2, (settings.patch, settings.patch)).mean(axis=(2, 3))
    return settings.trust * np.sqrt(np.abs(sigma**2 - removed))


def patch_table(image: np.ndarray, tile: Tile, patch: int) -> np.ndarray:
    """All patches of a tile's region, row by row: (patches, patch * patch)."""
    region = image[tile.top : tile.bottom + patch - 1, tile.left : tile.right + patch - 1]
    return sliding_window_view(region, (patch, patch)).reshape(-1, patch * patch)


def similar_patches(table: np.ndarray, tile: Tile, count: int) -> np.ndarray:
    """The ``count`` nearest patches of each reference patch of a tile, including itself, in no order.

    |a - b|^2 = |a|^2 + |b|^2 - 2ab, and |a|^2 does not change the order for one reference a. So one matrix product
    compares a band of references with all patches around it; each then chooses within its own window.

    Returns:
        Rows of ``table``, (references, count), uint16.
    """
    side, width = 2 * REACH + 1, tile.right - tile.left
    centred = table - table.mean()
    norms = np.einsum("ij,ij->i", centred, centred)
    found = []
    for rows in np.array_split(tile.rows, -(-len(tile.rows) // BAND)):
        top, bottom = max(tile.top, rows[0] - REACH), min(tile.bottom, rows[-1] + REACH + 1)
        band = slice((top - tile.top) * width, (bottom - tile.top) * width)
        own = ((rows[:, None] - tile.top) * width + tile.columns - tile.left).reshape(-1)
        scores = (norms[band] - 2 * centred[own] @ centred[band].T).reshape(len(own), bottom - top, width)
        windows = np.empty((len(own), side, side), table.dtype)
        for score, window, (row, column) in zip(scores, windows, product(rows, tile.columns), strict=True):
            up, left = max(tile.top, row - REACH), max(tile.left, column - REACH)
            seen = score[up - top : row + REACH + 1 - top, left - tile.left : column + REACH + 1 - tile.left]
            if seen.shape != window.shape:  # the image ends within reach
                window.fill(np.inf)
            down, along = up - row + REACH, left - column + REACH
            window[down : down + seen.shape[0], along : along + seen.shape[1]] = seen
        windows[:, REACH, REACH] = -np.inf  # the reference itself: in a flat image all are as near
        down, along = np.divmod(smallest(windows.reshape(len(own), -1), count), side)
        found.append(own[:, None] + (down - REACH) * width + along - REACH)
    return np.concatenate(found).astype(np.uint16)


def smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the ``count`` smallest values of each row, (rows, count), in no order.

    The ``count``-th smallest of the minima of disjoint parts bounds the ``count``-th smallest value, and few others
    are below it: sorting those takes a third of the time of sorting all.
    """
    rows, columns = values.shape
    share = max(1, columns // max(count, columns // 8))
    minima = values[:, : columns // share * share].reshape(rows, share, -1).min(axis=1)
    bound = np.partition(minima, count - 1, axis=1)[:, count - 1 : count]
    row, column = np.nonzero(values <= bound)
    counts = np.bincount(row, minlength=rows)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    left = np.full((rows, counts.max()), np.inf, values.dtype)
    left[row, slot] = values[row, column]
    places = np.zeros(left.shape, np.int64)
    places[row, slot] = column
    return np.take_along_axis(places, np.argpartition(left, count - 1, axis=1)[:, :count], axis=1)


def restored_patches(table: np.ndarray, groups: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Restore groups of patches of a table.

    Args:
        table: (patches, pixels).
        groups: rows of the table, (groups, n), int64.
        levels: standard deviation of the noise of each group, (groups,).

    Returns:
        The sum of the restored versions of each patch, (patches, pixels), and their number, (patches,).
    """
    patches, sums = torch.from_numpy(table), torch.zeros(table.shape, dtype=torch.from_numpy(table).dtype)
    for members, level in zip(
        torch.from_numpy(groups).split(BATCH), torch.from_numpy(levels).split(BATCH), strict=True
    ):
        restored = shrink(patches[members], level)
        sums.index_add_(0, members.reshape(-1), restored.reshape(-1, table.shape[1]))
    return sums.numpy(), np.bincount(groups.reshape(-1), minlength=len(table))


def shrink(groups: Tensor, level: Tensor) -> Tensor:
    """Minimise |Y - X|_F^2 + |X|_w,* (Eq. 5) for groups Y of n patches, each less the group's mean patch.

    Reweighting w_i = c sqrt(n) level^2 / s_i(X) has a fixed point in closed form. With C = c sqrt(n) level^2, a
    singular value s of Y becomes (s + sqrt(s^2 - 4C)) / 2, or 0 where s^2 < 4C. The s^2 are the eigenvalues of the
    smaller Gram matrix G. Because s^4 <= |G^2|_F, many groups are known to vanish without an eigendecomposition.

    Args:
        groups: (B, n, pixels).
        level: standard deviation of the noise of each group, (B,).

    Returns:
        (B, n, pixels).
    """
    n, pixels = groups.shape[1:]
    mean = groups.mean(dim=1, keepdim=True)
    centred = groups - mean
    gram = centred.mT @ centred if pixels <= n else centred @ centred.mT
    limit = 4 * WEIGHT * math.sqrt(n) * level.square()
    restored = mean.expand_as(groups).clone()
    some = (torch.linalg.matrix_norm(gram @ gram).sqrt() > limit).nonzero().squeeze(1)
    if len(some) == 0:
        return restored
    limit, centred = limit[some, None], centred[some]
    squares, vectors = torch.linalg.eigh(gram[some])  # ascending: (B', m), (B', m, m), m = min(n, pixels)
    rank = int((squares > limit).sum(dim=1).max())
    squares, vectors = squares[:, squares.shape[1] - rank :], vectors[:, :, vectors.shape[2] - rank :]
    gain = torch.where(squares > limit, (1 + (1 - limit / squares).clamp_min(0).sqrt()) / 2, 0)  # (B', rank)
    if pixels <= n:
        restored[some] += ((centred @ vectors) * gain[:, None]) @ vectors.mT
    else:
        restored[some] += vectors @ (gain[:, :, None] * (vectors.mT @ centred))
    return restored


def add_patches(sums: np.ndarray, counts: np.ndarray, tile: Tile, total: np.ndarray, weight: np.ndarray) -> None:
    """Add the patches of a tile to ``total``, and the number of patches on each pixel to ``weight``, both (H, W)."""
    height, width, patch = tile.bottom - tile.top, tile.right - tile.left, math.isqrt(sums.shape[1])
    sums, counts = sums.reshape(height, width, patch, patch), counts.reshape(height, width).astype(sums.dtype)
    lines = np.zeros((height + patch - 1, width, patch), sums.dtype)  # patches summed along the columns, line by line
    covers = np.zeros((height + patch - 1, width), sums.dtype)
    for i in range(patch):
        lines[i : i + height] += sums[:, :, i]
        covers[i : i + height] += counts
    for j in range(patch):
        place = slice(tile.top, tile.bottom + patch - 1), slice(tile.left + j, tile.right + j)
        total[place] += lines[:, :, j]
        weight[place] += covers
