"""Pointwise SA-DCT as its paper tells it, one neighbourhood at a time: what the batched one is compared with."""

from functools import cache

import numpy as np
from scipy.fft import dct, idct

from nsr_cli.classical.sadct import DIRECTIONS, MEAN_SHARE, SCALES, THRESHOLD, WIENER_SCALES

Pixel = tuple[int, int]


def plain_deblock(image: np.ndarray, sigma: float) -> np.ndarray:
    """An image (H, W) in 0..255."""
    reach = {pixel: [scale_of(image, pixel, way, sigma) for way in DIRECTIONS] for pixel in np.ndindex(image.shape)}
    basic = one_pass(image, reach, SCALES, sigma, None)
    return one_pass(image, reach, WIENER_SCALES, sigma, basic)


def scale_of(image: np.ndarray, pixel: Pixel, way: Pixel, sigma: float) -> int:
    """Index of the largest scale up to which the confidence intervals of all estimates overlap."""
    gamma, intervals, chosen = max(0.8, 2.4 / np.log(1 + 60 * sigma / 255)), [], 0
    for index, (scale, share) in enumerate(zip(SCALES, MEAN_SHARE, strict=True)):
        line = [(pixel[0] + way[0] * t, pixel[1] + way[1] * t) for t in range(scale)]
        if not all(0 <= row < image.shape[0] and 0 <= column < image.shape[1] for row, column in line):
            break
        fit = np.linalg.pinv(np.vander(np.arange(scale), min(scale, 2), increasing=True))[0]
        weights = share / scale + (1 - share) * fit
        estimate = weights @ [image[at] for at in line]
        half = gamma * sigma * np.sqrt(np.sum(weights**2))
        intervals.append((estimate - half, estimate + half))
        if max(low for low, _ in intervals) > min(high for _, high in intervals):
            break
        chosen = index
    return chosen


@cache
def neighbourhood(lengths: tuple[int, ...]) -> list[Pixel]:
    """Offsets (row, column) in the eight triangles between the centre and the ends of two neighbouring directions."""
    ends = [(row * (n - 1), column * (n - 1)) for (row, column), n in zip(DIRECTIONS, lengths, strict=True)]
    reach = range(-max(lengths), max(lengths) + 1)
    pairs = list(zip(ends, ends[1:] + ends[:1], strict=True))
    return [(row, column) for row in reach for column in reach if any(in_triangle((row, column), *p) for p in pairs)]


def in_triangle(pixel: Pixel, a: Pixel, b: Pixel) -> bool:
    """Whether a pixel is in the closed triangle of the origin, a and b, or on it where it is a line or a point."""
    area = abs(a[0] * b[1] - a[1] * b[0])
    if area:  # the three triangles with the pixel as a corner are no larger together
        corners = [((0, 0), a), (a, b), (b, (0, 0))]
        parts = [abs((p[0] - pixel[0]) * (q[1] - pixel[1]) - (p[1] - pixel[1]) * (q[0] - pixel[0])) for p, q in corners]
        return sum(parts) == area
    end = max(a, b, key=lambda p: abs(p[0]) + abs(p[1]))
    steps = max(abs(end[0]), abs(end[1]))
    return pixel in [(end[0] * t // max(steps, 1), end[1] * t // max(steps, 1)) for t in range(steps + 1)]


def forward(values: dict[Pixel, float]) -> list[np.ndarray]:
    """Rows of coefficients: columns are transformed first, from the top, then rows, from the left."""
    columns = []
    for column in sorted({column for _, column in values}):
        columns.append(dct([values[at] for at in sorted(values) if at[1] == column], norm="ortho"))
    deepest = max(len(column) for column in columns)
    return [dct([column[k] for column in columns if len(column) > k], norm="ortho") for k in range(deepest)]


def inverse(rows: list[np.ndarray], support: list[Pixel]) -> dict[Pixel, float]:
    """The values of a support from its rows of coefficients."""
    rows, restored = [list(idct(row, norm="ortho")) for row in rows], {}
    for column in sorted({column for _, column in support}):
        pixels = sorted(at for at in support if at[1] == column)
        values = idct([rows[k].pop(0) for k in range(len(pixels))], norm="ortho")
        restored.update(zip(pixels, values, strict=True))
    return restored


def one_pass(
    image: np.ndarray, reach: dict[Pixel, list[int]], scales: tuple[int, ...], sigma: float, guide: np.ndarray | None
) -> np.ndarray:
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    for (row, column), chosen in reach.items():
        support = [(row + down, column + along) for down, along in neighbourhood(tuple(scales[i] for i in chosen))]
        mean = np.mean([image[at] for at in support])
        rows = forward({at: image[at] - mean for at in support})
        if guide is None:
            threshold = THRESHOLD * sigma * np.sqrt(2 * np.log(len(support)) + 1)
            gains = [np.where(np.abs(one) > threshold, 1.0, 0.0) for one in rows]
        else:
            guide_mean = np.mean([guide[at] for at in support])
            guides = forward({at: guide[at] - guide_mean for at in support})
            gains = [one**2 / (one**2 + sigma**2) for one in guides]
        share = 1 / ((1 + sum(np.sum(gain**2) for gain in gains)) * len(support))
        restored = inverse([gain * one for gain, one in zip(gains, rows, strict=True)], support)
        for at, value in restored.items():
            total[at] += share * (value + mean)
            weight[at] += share
    return total / weight
