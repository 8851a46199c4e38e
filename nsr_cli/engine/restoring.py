"""Restore a user's picture of any size in bands, so that memory holds little beside it and its restored image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from nsr_cli.data.pictures import Canvas, Picture, check_format
from nsr_cli.layers.layout import set_layout
from nsr_cli.models.channels import adapt_channels
from nsr_cli.models.tiled import Tiling, restore_bands
from nsr_cli.ops.color import quantize
from nsr_cli.ops.resize import imresize

GAP = 8  # white pixels between the two sides of a comparison
REACH = 3  # rows on each side that a bicubic row is made from, and one more


@dataclass(frozen=True)
class Restorer:
    """A method and how pictures are given to it.

    Attributes:
        method: (B, reads, H, W) in [0, 1] to (B, reads, scale * H, scale * W); a trained network, or a classical one.
        reads: the channels that the method reads.
        scale: of the restored picture.
        colour: how a method of one channel restores colour: ``channels`` or ``luma``.
        tiling: of networks; None gives the method the whole picture, in float64.
    """

    method: Callable
    reads: int
    scale: int
    colour: str
    tiling: Tiling | None

    def tiles(self, height: int, width: int) -> int:
        """The number of tiles in which a picture is restored."""
        return len(self.tiling.starts(height)) * len(self.tiling.starts(width)) if self.tiling else 1

    def bands(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """Bands of restored rows (rows, W * scale, C), in [0, 1], of grey (H, W) or RGB (H, W, 3), uint8 or uint16."""
        method = adapt_channels(self.method, self.reads, 1 if pixels.ndim == 2 else 3, self.scale, self.colour)
        if self.tiling:
            yield from restore_bands(method, pixels, self.scale, self.tiling)
            return
        whole = np.atleast_3d(pixels).transpose(2, 0, 1)[None] / np.iinfo(pixels.dtype).max
        yield method(torch.from_numpy(whole))[0].permute(1, 2, 0).numpy()


@torch.no_grad()
def restore_picture(
    restorer: Restorer,
    picture: Picture,
    output: Path,
    comparison: Path | None,
    overwrite: bool,
    progress: Callable[[int], None],
) -> None:
    """Restore a picture into a file.

    Args:
        restorer: the method.
        picture: the picture, as read.
        output: the file; its suffix names the format.
        comparison: file of the picture, enlarged bicubically, beside the restored one; None for none.
        overwrite: whether to replace existing files.
        progress: called with the number of tiles done since its last call.

    Raises:
        UserError: the format does not hold such a picture.
        OSError, Failed: a file cannot be written.
    """
    scale, deep = restorer.scale, picture.colour.dtype == np.uint16
    height, width = (side * scale for side in picture.colour.shape[:2])
    channels = picture.channels - (picture.alpha is not None)
    check_format(output, height, width, picture.alpha is not None)
    canvas, beside = Canvas(output, (height, width), picture.channels, deep), None
    if comparison:
        size = height, 2 * width + GAP
        check_format(comparison, *size, alpha=False)
        beside = Canvas(comparison, size, channels, deep)
    done, top, tiles = 0, 0, restorer.tiles(*picture.colour.shape[:2])
    if isinstance(restorer.method, nn.Module):
        set_layout(restorer.method.eval(), torch.channels_last)  # as in scoring
    with parametrize.cached():
        for band in restorer.bands(picture.colour):
            end = top + len(band)
            rows = quantized_to(band, canvas.dtype)
            if beside:
                before = enlarged(picture.colour, top, end, scale)
                white = np.full((len(band), GAP, channels), 1.0)
                parts = before / np.iinfo(picture.colour.dtype).max, white, rows / np.iinfo(rows.dtype).max
                beside.put(top, 0, quantized_to(np.concatenate(parts, axis=1), beside.dtype))
            if picture.alpha is not None:
                alpha = enlarged(picture.alpha, top, end, scale) / np.iinfo(picture.alpha.dtype).max
                rows = np.concatenate([rows, quantized_to(alpha, canvas.dtype)], axis=2)
            canvas.put(top, 0, rows)
            top, so_far = end, tiles * end // height
            progress(so_far - done)
            done = so_far
    for made in filter(None, (canvas, beside)):
        if overwrite or made.path.is_dir() or not made.path.exists():
            made.write(picture.exif, picture.icc)
            overwrite = True  # a comparison shows the picture that was written


def quantized_to(image: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """An image in [0, 1], scaled to dtype's range and rounded."""
    return quantize(image * np.iinfo(dtype).max, dtype)


def enlarged(pixels: np.ndarray, top: int, end: int, scale: int) -> np.ndarray:
    """Rows ``top`` to ``end`` of MATLAB's bicubic enlargement of (H, W[, C]): (rows, W * scale, C), of its dtype.

    Args:
        pixels: uint8 or uint16.
        top, end: multiples of the scale.
    """
    first, low, high = top // scale, max(0, top // scale - REACH), end // scale + REACH
    strip = np.ascontiguousarray(pixels[low:high])
    if scale > 1:
        strip = strip if strip.dtype == np.uint8 else strip.astype(np.float64)
        strip = quantize(imresize(strip, scale), pixels.dtype.type)
    start = (first - low) * scale
    return np.atleast_3d(strip[start : start + end - top])
