"""Pointwise SA-DCT: deblocking by cosine transforms on neighbourhoods whose shape adapts to the image.

Foi, Katkovnik, Egiazarian, "Pointwise Shape-Adaptive DCT for High-Quality Denoising and Deblocking of Grayscale and
Color Images" (TIP 2007). Constants that the paper omits are those of the authors' published demo.
"""

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from tqdm import tqdm

from nsr_cli.errors import UserError

DIRECTIONS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))  # (row, column), every 45 degrees
SCALES = (1, 2, 3, 5, 7, 9)  # lengths of a neighbourhood in a direction in pixels, its centre included
WIENER_SCALES = (1, 2, 3, 5, 6, 6)  # the lengths that replace them in the second pass
MEAN_SHARE = (0.75, 0.70, 0.85, 0.90, 0.97, 1.0)  # of the mean in the estimate at each scale; the rest is a line fit
THRESHOLD = 0.925  # share of the universal threshold
PIXELS = 4096  # neighbourhoods in memory at once
DCT = [dct(np.eye(max(n, 1)), axis=0, norm="ortho") for n in range(2 * max(SCALES))]  # by length

LUMINANCE = np.array(  # quantisation table at quality 50: ITU-T T.81, Table K.1
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def sadct(x: Tensor, quality: int) -> Tensor:
    """Remove the artifacts of JPEG compression of known quality, in float64.

    Args:
        x: decoded grey images (B, 1, H, W) in [0, 1].
        quality: of the JPEG with libjpeg's standard tables, 1 to 100.

    Returns:
        (B, 1, H, W), in the dtype and on the device of ``x``, not clipped.

    Raises:
        UserError: the images are not grey, or the quality is not a whole number from 1 to 100.
    """
    if x.dim() != 4 or x.shape[1] != 1:
        raise UserError(f"SA-DCT restores grey images (B, 1, H, W); these are {tuple(x.shape)}")
    sigma = artifact_level(quality)
    restored = [torch.from_numpy(deblock(255 * image[0], sigma)) for image in x.detach().cpu().double().numpy()]
    return (torch.stack(restored).view(x.shape) / 255).to(x)


def quantisation_table(quality: int) -> np.ndarray:
    """libjpeg's luminance quantisation table (8, 8) at a quality of 1 to 100."""
    if quality not in range(1, 101):
        raise UserError(f"JPEG has no quality {quality}; expected a whole number from 1 to 100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((LUMINANCE * percent + 50) // 100, 1, 255)


def artifact_level(quality: int) -> float:
    """Standard deviation in grey levels of the noise that models JPEG artifacts.

    Its variance is 0.69 m^1.3, where m is the mean of the nine lowest frequencies' quantisation steps.
    """
    return float(np.sqrt(0.69 * quantisation_table(quality)[:3, :3].mean() ** 1.3))


def deblock(image: np.ndarray, sigma: float) -> np.ndarray:
    """Deblock one image (H, W) in 0..255: a pass with a hard threshold, then a pass with a Wiener filter."""
    reach = directional_scales(image, sigma)
    basic = transform_pass(image, reach, SCALES, sigma)
    return transform_pass(image, reach, WIENER_SCALES, sigma, basic)


def directional_scales(image: np.ndarray, sigma: float) -> np.ndarray:
    """The index into SCALES that each pixel's neighbourhood reaches in each direction: (8, H, W), int8.

    Anisotropic LPA-ICI: a pixel is estimated from more and more pixels of one direction. The chosen scale is the
    last one at which the confidence intervals of all estimates so far intersect. No scale leaves the image.
    """
    gamma = max(0.8, 2.4 / np.log(1 + 60 * sigma / 255))  # half an interval, in standard deviations
    (height, width), margin = image.shape, max(SCALES) - 1
    padded, inside = np.pad(image, margin, mode="edge"), np.pad(np.ones(image.shape, bool), margin)
    chosen = np.zeros((len(DIRECTIONS), height, width), np.int8)
    for (down, along), scales in zip(DIRECTIONS, chosen, strict=True):
        steps = [(margin + down * t, margin + along * t) for t in range(max(SCALES))]
        pixels = [padded[row : row + height, column : column + width] for row, column in steps]
        held = [inside[row : row + height, column : column + width] for row, column in steps]
        lowest, highest = np.full(image.shape, -np.inf), np.full(image.shape, np.inf)
        agree = np.ones(image.shape, bool)
        for index, scale in enumerate(SCALES):
            weights = line_kernel(index)
            estimate = sum(weight * pixel for weight, pixel in zip(weights, pixels[:scale], strict=True))
            half = gamma * sigma * np.linalg.norm(weights)
            lowest, highest = np.maximum(lowest, estimate - half), np.minimum(highest, estimate + half)
            agree &= (lowest <= highest) & held[scale - 1]
            scales[agree] = index
    return chosen


def line_kernel(index: int) -> np.ndarray:
    """Weights that estimate a pixel from itself and those after it on a line, by their mean and least-squares line."""
    n, share = SCALES[index], MEAN_SHARE[index]
    line = (4 * n - 2 - 6 * np.arange(n)) / (n * (n + 1))
    return share / n + (1 - share) * line


def triangles(scales: tuple[int, ...]) -> np.ndarray:
    """Masks of the triangles between neighbouring directions, by both scales: (8, scales, scales, side * side).

    The corners of a triangle are the centre and the last pixel of each of the two directions. Its edges belong to it.
    Pixels are counted column by column.
    """
    margin = max(scales) - 1
    x, y = np.meshgrid(*2 * [np.arange(-margin, margin + 1)], indexing="ij")
    masks = np.zeros((len(DIRECTIONS), len(scales), len(scales), x.size), bool)
    for number, (down, along) in enumerate(DIRECTIONS):
        next_down, next_along = DIRECTIONS[(number + 1) % len(DIRECTIONS)]
        turn = next_down * along - next_along * down  # of the two directions' vectors: they are a basis
        first = (next_down * x - next_along * y) * turn  # steps in this direction, and in the next, to a pixel
        second = (along * y - down * x) * turn
        for i, here in enumerate(scales):
            for j, there in enumerate(scales):
                a, b = here - 1, there - 1
                inside = (first >= 0) & (second >= 0) & (first <= a) & (second <= b) & (first * b + second * a <= a * b)
                masks[number, i, j] = inside.ravel()
    return masks


class Supports:
    """The shape-adaptive DCT of many neighbourhoods of different shapes.

    The columns of a neighbourhood are shifted to its top and transformed at their lengths; then the rows of
    coefficients are shifted to the left and transformed. One vector holds all values, neighbourhood after
    neighbourhood, and runs of the same length are transformed by one matrix product.
    """

    def __init__(self, masks: np.ndarray):
        """Prepare the transforms of masks (neighbourhoods, side * side), column by column; no mask may be empty."""
        side = int(np.sqrt(masks.shape[1]))
        rank = np.arange(side)[None, :, None]
        height = masks.reshape(-1, side, side).sum(axis=2)  # of each column
        self.columns = Runs(height)
        filled = rank < height[:, None]  # by neighbourhood, frequency and column
        self.order = (self.columns.starts.reshape(-1, 1, side) + rank)[filled]  # of the coefficients, row by row
        self.rows = Runs(filled.sum(axis=2))
        self.sizes = height.sum(axis=1)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.owner = np.repeat(np.arange(len(masks)), self.sizes)  # of each value
        self.cells = np.flatnonzero(masks) % masks.shape[1]

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Coefficients of all values."""
        return self.rows.multiplied(self.columns.multiplied(values)[self.order])

    def inverse(self, coefficients: np.ndarray) -> np.ndarray:
        """Values of all coefficients."""
        values = np.empty_like(coefficients)
        values[self.order] = self.rows.multiplied(coefficients, inverse=True)
        return self.columns.multiplied(values, inverse=True)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """The sum of values over each neighbourhood."""
        return np.add.reduceat(values, self.starts)


class Runs:
    """Adjoining runs of a vector, each of which has its own DCT."""

    def __init__(self, lengths: np.ndarray):
        self.lengths = lengths.ravel()
        self.starts = np.cumsum(self.lengths) - self.lengths

    def multiplied(self, values: np.ndarray, inverse: bool = False) -> np.ndarray:
        """A copy of the vector with the DCT, or its inverse, of each run."""
        values = values.copy()
        for length in range(2, self.lengths.max() + 1):
            places = self.starts[self.lengths == length, None] + np.arange(length)
            values[places] = values[places] @ (DCT[length] if inverse else DCT[length].T)
        return values


def transform_pass(
    image: np.ndarray, reach: np.ndarray, scales: tuple[int, ...], sigma: float, guide: np.ndarray | None = None
) -> np.ndarray:
    """Filter the neighbourhood of every pixel less its mean, and average the overlapping estimates of each pixel.

    Without a guide, coefficients up to the universal threshold are dropped. With a guide, all are multiplied by the
    empirical Wiener filter of the guide's coefficients. The weight of a neighbourhood is 1 / ((1 + s) n), where s is
    its sum of squared gains and n its size.

    Args:
        image: (H, W), grey levels.
        reach: (8, H, W), indices into ``scales``.
        scales: lengths of a neighbourhood in a direction in pixels.
        sigma: standard deviation of the noise in grey levels.
        guide: an estimate of the result, (H, W), or None.

    Returns:
        (H, W), grey levels.
    """
    (height, width), shapes, margin = image.shape, triangles(scales), max(scales) - 1
    along, down = np.divmod(np.arange(shapes.shape[-1]), 2 * margin + 1)
    offsets = (down - margin) * width + along - margin
    total, weight = np.zeros(image.size), np.zeros(image.size)
    chosen = reach.reshape(len(DIRECTIONS), -1)
    for first in tqdm(range(0, image.size, PIXELS), "SA-DCT", leave=False, disable=None):
        some = chosen[:, first : first + PIXELS]
        masks = np.zeros((some.shape[1], shapes.shape[-1]), bool)
        for triangle, here, there in zip(shapes, some, np.roll(some, -1, axis=0), strict=True):
            masks |= triangle[here, there]
        supports = Supports(masks)
        own, size = supports.owner, supports.sizes
        places = first + own + offsets[supports.cells]
        values = image.ravel()[places]
        mean = supports.totals(values) / size
        coefficients = supports.forward(values - mean[own])
        if guide is None:
            gain = np.abs(coefficients) > THRESHOLD * sigma * np.sqrt(2 * np.log(size) + 1)[own]
        else:
            likely = guide.ravel()[places]
            power = supports.forward(likely - (supports.totals(likely) / size)[own]) ** 2
            gain = power / (power + sigma**2)
        share = (1 / ((1 + supports.totals(gain * gain * 1.0)) * size))[own]
        restored = supports.inverse(gain * coefficients) + mean[own]
        low, span = places.min(), np.ptp(places) + 1
        total[low : low + span] += np.bincount(places - low, share * restored)
        weight[low : low + span] += np.bincount(places - low, share)
    return (total / weight).reshape(height, width)
