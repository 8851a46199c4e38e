"""WNNM as its paper tells it, one group at a time: what the batched one is compared with, in result and in speed."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nsr_cli.classical.wnnm import DELTA, FEWER, REACH, SEARCH_EVERY, WEIGHT, Settings


def plain_wnnm(noisy: np.ndarray, sigma: float, settings: Settings) -> np.ndarray:
    """An image (H, W) in 0..255, in its own precision; images whose corners hold a whole group."""
    patch, estimate = settings.patch, noisy
    grid = [[*range(0, side - patch + 1, settings.step)] for side in noisy.shape]
    rows, columns = ([*at, *range(at[-1] + 1, side - patch + 1)] for at, side in zip(grid, noisy.shape, strict=True))
    references = [(row, column) for row in rows for column in columns]
    nearest: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    for iteration in range(settings.iterations):
        estimate = estimate + DELTA * (noisy - estimate)
        patches, noisy_patches = (sliding_window_view(image, (patch, patch)) for image in (estimate, noisy))
        total, weight = np.zeros_like(noisy), np.zeros_like(noisy)
        size = settings.group - FEWER * (1 + iteration // SEARCH_EVERY)
        for reference in references:
            if iteration % SEARCH_EVERY == 0:
                nearest[reference] = similar(patches, reference, size)
            removed = np.mean((noisy_patches[reference] - patches[reference]) ** 2)
            level = settings.trust * np.sqrt(abs(sigma**2 - removed)) if iteration else sigma
            restored = shrunk(patches[nearest[reference]].reshape(size, -1), level).reshape(size, patch, patch)
            for row, column, one in zip(*nearest[reference], restored, strict=True):
                total[row : row + patch, column : column + patch] += one
                weight[row : row + patch, column : column + patch] += 1
        estimate = total / weight
    return estimate


def similar(patches: np.ndarray, reference: tuple[int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the ``size`` nearest patches in the window of a reference."""
    up, left = (max(0, at - REACH) for at in reference)
    window = patches[up : reference[0] + REACH + 1, left : reference[1] + REACH + 1]
    distance = ((window - patches[reference]) ** 2).sum(axis=(2, 3))
    distance[reference[0] - up, reference[1] - left] = -1  # itself comes before its equals
    row, column = np.divmod(np.argsort(distance, axis=None)[:size], distance.shape[1])
    return up + row, left + column


def shrunk(group: np.ndarray, level: float) -> np.ndarray:
    """A group (n, pixels) by the singular value decomposition, with the closed form of the reweighting."""
    mean = group.mean(axis=0)
    left, values, right = np.linalg.svd(group - mean, full_matrices=False)
    inside = values**2 - 4 * WEIGHT * np.sqrt(len(group)) * level**2
    values = np.where(inside > 0, (values + np.sqrt(np.maximum(inside, 0))) / 2, 0)
    return mean + (left * values) @ right
