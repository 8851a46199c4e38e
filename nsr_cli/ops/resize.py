"""MATLAB's bicubic `imresize`: separable, antialiased when shrinking, mirrored borders.

Each 1-D pass is a product of small banded matrices with blocks of rows. For factors 2, 3, 1/2, ... the
weights have a small common denominator, and 8-bit images are filtered in exact integers, held in float32.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from nsr_cli.errors import UserError

_BAND_SHRINKING, _BAND_GROWING = 8, 32  # output rows per matrix product
_BUFFER = 1 << 21  # bytes of a working buffer: small enough to stay in a core's cache
_PRODUCT = 1 << 18  # multiplications of one matrix product: up to this number OpenBLAS uses one thread
_WIDTH = 1 << 16  # values of one row that are resized at a time
_MAX_DENOMINATOR = 4096  # sums stay far below 2**24, and float32 tells a quotient from a half next to it
_TIE = 1e-9  # float64 sums this close below a half are halves


def imresize(
    image: np.ndarray,
    scale: float | None = None,
    size: Sequence[int] | None = None,
    axes: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """Resize two axes of an array as MATLAB's `imresize(image, scale or size, "bicubic")` does.

    Args:
        image: uint8 or finite float array, (H, W) or (H, W, C) unless `axes` says otherwise.
        scale: factor of both axes; an axis of n pixels becomes ceil(n * scale). Give this or `size`.
        size: (height, width) wanted; the factors are the ratios of the sizes.
        axes: the vertical and the horizontal axis, e.g. (-2, -1) for NCHW.

    Returns:
        An array of the same dtype. The axis with the smaller factor goes first, the vertical one when equal.
        uint8 values are rounded (half away from zero) and clipped after each of the two passes;
        float values are computed in float64 and neither rounded nor clipped.

    Raises:
        UserError: neither or both of scale and size are given, one is not positive, or the dtype is no image's.

    Source: cubic convolution with a = -0.5, R. Keys, IEEE Trans. ASSP 29(6), 1981; MATLAB's documentation.
    """
    image = np.asarray(image)
    axes = _checked_axes(image, axes)
    lengths = [image.shape[axis] for axis in axes]
    lengths_out, scales = _checked_sizes(lengths, scale, size)
    shape_out = list(image.shape)
    for axis, length in zip(axes, lengths_out, strict=False):
        shape_out[axis] = length
    out = np.empty(shape_out, image.dtype)
    source, target = _as_planes(image, axes), _as_planes(out, axes)  # (..., H, W, C)
    if scales[1] < scales[0]:
        source, target = source.swapaxes(-3, -2), target.swapaxes(-3, -2)
        scales = scales[::-1]
    _resize_planes(source, target, *scales)
    return out


def _checked_axes(image: np.ndarray, axes: Sequence[int]) -> list[int]:
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"imresize: dtype {image.dtype}; expected uint8 or a float dtype")
    if len(axes) != 2 or not all(-image.ndim <= axis < image.ndim for axis in axes):
        raise UserError(f"imresize: axes {tuple(axes)} of shape {image.shape}; expected two of its axes")
    axes = [axis % image.ndim for axis in axes]
    if axes[0] == axes[1]:
        raise UserError(f"imresize: both axes are axis {axes[0]}; expected two different ones")
    if image.size == 0:
        raise UserError(f"imresize: an image of shape {image.shape} has no pixels")
    return axes


def _checked_sizes(
    lengths: Sequence[int], scale: float | None, size: Sequence[int] | None
) -> tuple[list[int], list[float]]:
    if (scale is None) == (size is None):
        raise UserError(f"imresize: scale={scale}, size={size}; expected exactly one of the two")
    if scale is not None:
        if not (np.ndim(scale) == 0 and 0 < scale < math.inf):
            raise UserError(f"imresize: scale={scale}; expected one positive number")
        return [math.ceil(n * scale) for n in lengths], [float(scale)] * 2
    if np.shape(size) != (2,) or not all(0 < m < math.inf and m == int(m) for m in size):
        raise UserError(f"imresize: size={size}; expected (height, width) in whole pixels, both positive")
    size = [int(m) for m in size]
    return size, [m / n for m, n in zip(size, lengths, strict=False)]


def _as_planes(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The array as a view (..., H, W, C); C is its last axis, or 1 when that is resized."""
    if array.ndim - 1 in axes:
        return np.moveaxis(array, axes, (-2, -1))[..., None]
    return np.moveaxis(array, axes, (-3, -2))


def _resize_planes(source: np.ndarray, target: np.ndarray, scale_y: float, scale_x: float) -> None:
    """Fill target (..., H', W', C) from source (..., H, W, C) tile by tile, the vertical pass first."""
    height, width, channels = source.shape[-3:]
    height_out, width_out = target.shape[-3:-1]
    leading = list(np.ndindex(source.shape[:-3]))
    cols = _tile_side(_WIDTH / channels * min(1.0, scale_x))
    for x0 in range(0, width_out, cols):
        x1 = min(x0 + cols, width_out)
        across = _weights(x0, x1, width, scale_x)
        row_values = max(x1 - x0, across.stop - across.start) * channels
        rows = _tile_side(_BUFFER / (row_values * (4 if source.dtype == np.uint8 else 8)))
        for y0 in range(0, height_out, rows):
            y1 = min(y0 + rows, height_out)
            down = _weights(y0, y1, height, scale_y)
            for index in leading:
                tile = source[index][down.start : down.stop, across.start : across.stop]
                tile = _transpose(_pass(tile, down))  # (W, H', C)
                target[index][y0:y1, x0:x1] = _transpose(_pass(tile, across))


def _tile_side(count: float) -> int:
    return max(1, int(count) // _BAND_GROWING) * _BAND_GROWING


class _Weights(NamedTuple):
    """The weights of some outputs of one axis, over its inputs start .. stop - 1.

    Outputs from b * band on are that band of rows of `matrix` times the inputs from start + offsets[b] on.
    With a denominator the matrix holds integers, to be divided by it.
    """

    matrix: np.ndarray  # (outputs, span), float64
    offsets: list[int]
    band: int
    start: int
    stop: int
    denominator: int | None


@functools.lru_cache(maxsize=64)
def _weights(first: int, last: int, length: int, scale: float) -> _Weights:
    """The weights of outputs first .. last - 1 of an axis of `length` pixels, mirrored pixels folded back."""
    outputs = last - first
    shrink = min(scale, 1.0)
    support = 4.0 / shrink
    center = (np.arange(first, last) + 0.5) / scale - 0.5
    index = np.floor(center - support / 2).astype(np.int64)[:, None] + np.arange(math.ceil(support) + 2)
    weight = _cubic(shrink * (center[:, None] - index))  # (outputs, taps)
    weight /= weight.sum(axis=1, keepdims=True)
    denominator = _common_denominator(weight, scale)
    if denominator:
        weight = np.rint(weight * denominator)
    index %= 2 * length
    index = np.minimum(index, 2 * length - 1 - index)

    band = _BAND_SHRINKING if scale < 1 else _BAND_GROWING
    starts = np.arange(0, outputs, band)
    lowest = np.minimum.reduceat(index.min(axis=1), starts)
    span = int((np.maximum.reduceat(index.max(axis=1), starts) - lowest).max()) + 1
    lowest = np.minimum(lowest, length - span)
    column = index - np.repeat(lowest, band)[:outputs, None]
    cell = np.arange(outputs)[:, None] * span + column
    matrix = np.bincount(cell.ravel(), weight.ravel(), minlength=outputs * span).reshape(outputs, span)
    start, stop = int(lowest.min()), int(lowest.max()) + span
    return _Weights(matrix, (lowest - start).tolist(), band, start, stop, denominator)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, a = -0.5 (his Eq. 15)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _common_denominator(weight: np.ndarray, scale: float) -> int | None:
    """A small integer whose product with every weight is an integer; None if there is none. Whole factors have one."""
    factor = round(max(scale, 1 / scale))
    step = factor if factor % 2 else 2 * factor  # distances are multiples of 1 / step
    denominator = 2 * step**3 * (factor if scale < 1 else 1)
    if denominator > _MAX_DENOMINATOR:
        return None
    scaled = weight * denominator
    return denominator if np.abs(scaled - np.rint(scaled)).max() < 1e-8 else None


def _pass(tile: np.ndarray, weights: _Weights) -> np.ndarray:
    """Resize the first axis of a tile (h, w, C), some columns at a time; uint8 tiles come back rounded."""
    height, width, channels = tile.shape
    outputs, span = weights.matrix.shape
    rounded, denominator = tile.dtype == np.uint8, weights.denominator
    dtype = np.dtype(np.float32 if rounded and denominator else np.float64)
    matrix = weights.matrix if rounded or not denominator else weights.matrix / denominator
    matrix = matrix.astype(dtype)
    out = np.empty((outputs, width, channels), np.uint8 if rounded else np.float64)
    values = min(_BUFFER // (max(height, outputs) * dtype.itemsize), _PRODUCT // (weights.band * span))
    step = max(1, values // channels)
    for x in range(0, width, step):
        block = tile[:, x : x + step].astype(dtype, order="C").reshape(height, -1)  # (h, columns * C)
        result = np.empty((outputs, block.shape[1]), dtype)
        for i, offset in enumerate(weights.offsets):
            rows = slice(i * weights.band, (i + 1) * weights.band)
            np.matmul(matrix[rows], block[offset : offset + span], out=result[rows])
        if rounded:
            _round(result, denominator)
        out[:, x : x + step] = result.reshape(outputs, -1, channels)
    return out


def _round(values: np.ndarray, denominator: int | None) -> None:
    """Divide, add a half and clip to 0..255, in place: a cast to uint8 then rounds half away from zero."""
    if denominator:
        values *= 1 / denominator
    values += 0.5 + (0.25 / denominator if denominator else _TIE)
    np.clip(values, 0, 255, out=values)


def _transpose(tile: np.ndarray) -> np.ndarray:
    """(h, w, C) to a contiguous (w, h, C)."""
    if tile.shape[2] <= 4:
        return cv2.transpose(tile).reshape(tile.shape[1], tile.shape[0], tile.shape[2])
    return np.ascontiguousarray(tile.swapaxes(0, 1))
