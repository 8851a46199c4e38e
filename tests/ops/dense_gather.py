"""The reference of imresize: the usual port of MATLAB's, by dense gathers, its weights from exact fractions."""

import math
from fractions import Fraction

import numpy as np


def cubic(x):
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x < 2 else Fraction(0)


def contributions(length, length_out, scale):
    """MATLAB's `contributions`, in exact fractions: for each output its (mirrored input, weight) pairs."""
    shrink = min(scale, Fraction(1))
    table = []
    for i in range(length_out):
        center = (i + Fraction(1, 2)) / scale - Fraction(1, 2)
        left = math.floor(center - 2 / shrink)
        taps = range(left, left + math.ceil(4 / shrink) + 2)
        weights = [cubic(shrink * (center - j)) for j in taps]
        mirrored = [min(j % (2 * length), 2 * length - 1 - j % (2 * length)) for j in taps]
        table.append([(j, w / sum(weights)) for j, w in zip(mirrored, weights, strict=False) if w])
    return table


def dense_gather(image, scale=None, size=None):
    """One axis after the other: gather P neighbours of each output, weigh in float64, sum."""
    return gather(image, gather_passes(image.shape[:2], scale, size))


def gather_passes(shape, scale=None, size=None):
    """For each axis, in the order they are resized: axis, and the index and weight (outputs, P) of its gather."""
    if size is None:
        scales = [Fraction(scale).limit_denominator(100)] * 2
        size = [math.ceil(n * s) for n, s in zip(shape, scales, strict=False)]
    else:
        scales = [Fraction(m, n) for m, n in zip(size, shape, strict=False)]
    order = sorted((0, 1), key=lambda axis: scales[axis])
    return [(axis, *as_arrays(contributions(shape[axis], size[axis], scales[axis]))) for axis in order]


def as_arrays(table):
    taps = max(len(row) for row in table)
    index = np.array([[j for j, _ in row] + [0] * (taps - len(row)) for row in table])
    weight = np.array([[float(w) for _, w in row] + [0.0] * (taps - len(row)) for row in table])
    return index, weight  # (outputs, P) each


def gather(image, passes):
    out = image.astype(np.float64)
    for axis, index, weight in passes:
        out = np.moveaxis(out, axis, 0)
        out = (out[index] * weight.reshape(weight.shape + (1,) * (out.ndim - 1))).sum(axis=1)
        out = np.moveaxis(out, 0, axis)
        if image.dtype == np.uint8:
            out = np.clip(np.floor(out + 0.5), 0, 255)
    return out.astype(image.dtype)
