"""Scoring: any method, any data set, by the conventions of the published tables."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from nsr_cli.data.images import read_image
from nsr_cli.engine.conventions import Convention
from nsr_cli.errors import UserError, naming
from nsr_cli.layers.layout import set_layout
from nsr_cli.models.authors_tiling import AuthorsTiling, restore_as_authors
from nsr_cli.models.luma import ColourByLuma
from nsr_cli.models.tiled import Tiling, restore_bands
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.metrics import metric

SSIM_WINDOW = 11


class Degradation(Protocol):
    """What scoring asks of a task (see nsr_cli.tasks)."""

    scale: int

    def prepare(self, path: Path, image: np.ndarray, convention: Convention) -> tuple[np.ndarray, np.ndarray]: ...


def restore(
    method: Callable, degraded: np.ndarray, scale: int, tiling: Tiling | None, rounded: bool = True
) -> np.ndarray:
    """The method's restored image in 0..255, (H * scale, W * scale[, C]): uint8, or float where it is not rounded.

    Args:
        method: NCHW in [0, 1] to NCHW in [0, 1].
        degraded: (H, W[, C]) in 0..255.
        scale: of the method.
        tiling: of networks; None gives the method the whole image at once, in float64.
        rounded: whether to round to uint8.
    """
    if tiling is None:
        whole = torch.from_numpy(np.atleast_3d(degraded).transpose(2, 0, 1)[None] / 255.0)
        restored = method(whole)[0].permute(1, 2, 0).numpy() * 255.0
        restored = restored[:, :, 0] if degraded.ndim == 2 else restored
        return quantize(restored) if rounded else restored
    if isinstance(tiling, AuthorsTiling):
        restored = 255.0 * restore_as_authors(method, degraded, tiling)
        restored = restored[:, :, 0] if degraded.ndim == 2 else restored
        return quantize(restored) if rounded else restored
    height, width = (side * scale for side in degraded.shape[:2])
    restored, row = np.empty((height, width, *degraded.shape[2:]), np.uint8 if rounded else np.float32), 0
    for band in restore_bands(method, degraded, scale, tiling):
        band = quantize(band * 255.0) if rounded else band * 255.0
        restored[row : row + len(band)] = band.reshape(len(band), *restored.shape[1:])
        row += len(band)
    return restored


def score(restored: np.ndarray, truth: np.ndarray, image: np.ndarray, convention: Convention) -> dict[str, float]:
    """The metrics of one restored image, by name; ``image`` is the benchmark's file, which may be grey."""
    if restored.shape != truth.shape:
        raise UserError(f"the restored image is {shape_text(restored)}; expected {shape_text(truth)}, as the truth")
    pair = [restored, truth]
    if convention.given == "rgb" and image.ndim == 2:  # a grey image is its own Y
        grey = restored.mean(axis=2)
        pair = [quantize(grey) if convention.output_rounded else grey, truth[:, :, 0]]
    elif convention.measured in ("y", "y8"):
        pair = [quantize(rgb_to_y(p)) if convention.measured == "y8" else rgb_to_y(p) for p in pair]
    height, width = truth.shape[:2]
    b = convention.border
    pair = [picture[b : height - b, b : width - b] for picture in pair]
    return {name: measured(name, *pair) for name in convention.metrics}


def shape_text(image: np.ndarray) -> str:
    """The size of an image in words: width, height, channels."""
    height, width, *channels = image.shape
    return f"{width}x{height}" + f" with {channels[0]} channels" * bool(channels)


def measured(name: str, restored: np.ndarray, truth: np.ndarray) -> float:
    """The value of a metric by its name. Raises UserError for what is no number; infinity is one, as a PSNR."""
    if "." in name:  # a user's function, whose differences of uint8 would wrap around
        restored, truth = restored.astype(np.float64), truth.astype(np.float64)
    value = metric(name)(restored, truth)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"metrics=[{name}]: it returned {value!r:.60}; expected a number") from None
    if math.isnan(number) or number == -math.inf:
        raise UserError(f"metrics=[{name}]: it returned {number}; expected a number")
    return number


@torch.no_grad()
def evaluate(
    method: Callable,
    paths: list[Path],
    task: Degradation,
    conventions: list[Convention],
    tiling: Tiling | None = None,
    luma_only: bool = False,
) -> Iterator[tuple[Path, dict[str, dict[str, float]], np.ndarray]]:
    """Score a method on images, one at a time; conventions with the same input share its output.

    With ``luma_only``, the method restores the luma of RGB images, and their chroma is enlarged bicubically.

    Yields:
        The file, its scores by convention, and the restored image of the last convention.
    """
    network = isinstance(method, nn.Module)
    if network:
        set_layout(method.eval(), torch.channels_last)  # halves the time of plain convolutions on a CPU
    with parametrize.cached() if network else contextlib.nullcontext():  # weights are normalised once, not by tile
        for path in paths:
            image, outputs, scores = read_image(path), {}, {}
            check_large_enough(path, image.shape[:2], task, conventions)
            for convention in conventions:
                if convention.restoration not in outputs:
                    degraded, truth = task.prepare(path, image, convention)
                    used = ColourByLuma(method, task.scale) if luma_only and convention.given == "rgb" else method
                    with naming(path):
                        restored = restore(used, degraded, task.scale, tiling, convention.output_rounded)
                    outputs[convention.restoration] = restored, truth
                with naming(path):
                    scores[convention.name] = score(*outputs[convention.restoration], image, convention)
            yield path, scores, list(outputs.values())[-1][0]


def check_large_enough(path: Path, size: tuple[int, int], task: Degradation, conventions: Sequence[Convention]) -> None:
    """Raise UserError for an image of (height, width) that is too small for SSIM, once cut to the scale and border."""
    least = 2 * max(convention.border for convention in conventions) + SSIM_WINDOW
    least += -least % task.scale
    if min(size) < least:
        raise UserError(f"{path}: {size[1]}x{size[0]} is too small to be scored; expected at least {least}x{least}")
