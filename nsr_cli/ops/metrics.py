"""PSNR and SSIM in float64, computed tile by tile for images of any size."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np

from nsr_cli.errors import UserError
from nsr_cli.names import imported

K1, K2 = 0.01, 0.03
_TILE = (128, 512)  # rows and columns scored at a time: small enough to stay in a core's cache


def _gaussian(size: int, sigma: float) -> np.ndarray:
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


WINDOWS = {"gaussian": _gaussian(11, 1.5), "uniform": np.full(8, 1 / 8)}  # 1-D factors of the 2-D windows


def psnr(restored: np.ndarray, truth: np.ndarray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio over all pixels and channels, in dB; inf for identical images.

    Args:
        restored, truth: (H, W) or (H, W, C) of one shape, uint8 or float (they may differ), in 0..peak.
        peak: the value of white: 255, 1, or 65535.

    Raises:
        UserError: the shapes differ, or are not those of images; or the peak is not above 0.
    """
    restored, truth = _checked_pair("psnr", restored, truth, peak)
    total = 0.0
    for rows, cols in _tiles(*truth.shape[:2]):
        error = restored[rows, cols].astype(np.float64)
        error -= truth[rows, cols]
        np.square(error, out=error)
        total += float(error.sum())
    mse = total / truth.size
    return 20 * math.log10(peak) - 10 * math.log10(mse) if mse else math.inf


def ssim(restored: np.ndarray, truth: np.ndarray, window: str = "gaussian", peak: float = 255.0) -> float:
    """Mean structural similarity, at most 1; of a colour image, the mean over its channels.

    Computed over the windows that lie wholly inside the image, with population statistics, K1 = 0.01 and K2 = 0.03.

    Args:
        restored, truth: (H, W) or (H, W, C) of one shape, uint8 or float (they may differ), in 0..peak.
        window: "gaussian", 11x11 with sigma 1.5; or "uniform", 8x8.
        peak: the value of white: 255, 1, or 65535.

    Raises:
        UserError: the shapes differ, a side is smaller than the window, the window is unknown, or the peak is not
            above 0.

    Source: Z. Wang et al., IEEE Trans. Image Processing 13(4), 2004, Eq. 13.
    """
    restored, truth = _checked_pair("ssim", restored, truth, peak)
    if window not in WINDOWS:
        raise UserError(f"no SSIM window '{window}'; there are: {', '.join(WINDOWS)}")
    kernel = WINDOWS[window]
    height, width = truth.shape[:2]
    margin = len(kernel) - 1
    if min(height, width) <= margin:
        need = f"the {window} window needs at least {len(kernel)}x{len(kernel)}"
        raise UserError(f"ssim: an image of {height}x{width} pixels; {need}")
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    total = 0.0
    for rows, cols in _tiles(height - margin, width - margin):
        inputs = slice(rows.start, rows.stop + margin), slice(cols.start, cols.stop + margin)
        if truth.ndim == 2:
            total += _ssim_sum(restored[inputs], truth[inputs], kernel, c1, c2)
        else:
            for c in range(truth.shape[2]):
                total += _ssim_sum(restored[*inputs, c], truth[*inputs, c], kernel, c1, c2)
    channels = 1 if truth.ndim == 2 else truth.shape[2]
    return total / ((height - margin) * (width - margin) * channels)


METRICS = {"psnr": psnr, "ssim": ssim, "ssim8": partial(ssim, window="uniform")}


def metric(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A metric, a function of (restored, truth): one of METRICS, or a user's function by its dotted name.

    The images are (H, W) or (H, W, 3) in 0..255, without their border; a user's function gets them in float64.

    Raises:
        UserError: no such metric.
    """
    if name in METRICS:
        return METRICS[name]
    if "." not in name:
        raise UserError(f"no metric '{name}'; there are: {', '.join(METRICS)}, or a function as in my_metrics.lpips")
    return imported(name, f"metrics=[{name}]")


def _ssim_sum(x: np.ndarray, y: np.ndarray, kernel: np.ndarray, c1: float, c2: float) -> float:
    """The sum of the SSIM map over the valid windows of one tile (h, w).

    With m = 2 mu_x mu_y + c1 and q = mu_x^2 + mu_y^2 + c1, the map is
    m (2 E[xy] + c1 + c2 - m) / (q (E[x^2 + y^2] + c1 + c2 - q)): four filterings, the rest in place.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _filter(x, kernel), _filter(y, kernel)
    covariance = _filter(x * y, kernel, gain=2.0, offset=c1 + c2)
    x *= x
    y *= y
    x += y
    variances = _filter(x, kernel, offset=c1 + c2)
    m = mean_x * mean_y
    m *= 2
    m += c1
    mean_x *= mean_x
    mean_y *= mean_y
    mean_x += mean_y
    mean_x += c1
    q = mean_x
    covariance -= m
    covariance *= m
    variances -= q
    variances *= q
    covariance /= variances
    return float(covariance.sum())


def _filter(field: np.ndarray, kernel: np.ndarray, gain: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """The valid region (h - n + 1, w - n + 1) of a float64 field (h, w) filtered, times gain, plus offset."""
    n = len(kernel)
    before, after = n // 2, n - 1 - n // 2
    height, width = field.shape
    filtered = cv2.sepFilter2D(field, cv2.CV_64F, kernel, gain * kernel, delta=offset)
    return filtered[before : height - after, before : width - after]


def _checked_pair(name: str, restored: np.ndarray, truth: np.ndarray, peak: float) -> tuple[np.ndarray, np.ndarray]:
    restored, truth = np.asarray(restored), np.asarray(truth)
    if restored.shape != truth.shape:
        raise UserError(f"{name}: shapes {restored.shape} and {truth.shape}; expected one shape")
    if truth.ndim not in (2, 3):
        raise UserError(f"{name}: an image of shape {truth.shape}; expected (H, W) or (H, W, C)")
    if truth.size == 0:
        raise UserError(f"{name}: an image of shape {truth.shape} has no pixels")
    if not peak > 0:
        raise UserError(f"{name}: peak={peak}; expected the value of white, above 0")
    return restored, truth


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, _TILE[0]):
        for left in range(0, width, _TILE[1]):
            yield slice(top, min(top + _TILE[0], height)), slice(left, min(left + _TILE[1], width))
