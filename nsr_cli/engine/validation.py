"""Validation during a training: PSNR on the centres of a few benchmark images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from nsr_cli.data.images import read_image
from nsr_cli.engine.conventions import Convention
from nsr_cli.engine.evaluator import Degradation, check_large_enough, restore, score
from nsr_cli.layers.merge import copied
from nsr_cli.models.luma import ColourByLuma
from nsr_cli.models.tiled import tiling_of

IMAGES, SIDE = 8, 192  # the largest number of images, and the largest side of each in pixels
SHOWN = 4  # the number of restored images that are returned


def validation_of(
    paths: list[Path], task: Degradation, convention: Convention, patch: int, luma_only: bool = False
) -> Callable[[nn.Module], dict[str, float | np.ndarray]]:
    """A function from a network to its mean ``psnr`` in dB and ``restored/NAME``, the first images in uint8.

    It is quick, and only for curves: tables show whole benchmarks.

    Args:
        paths: of the benchmark.
        task: of the benchmark.
        convention: of the benchmark.
        patch: side of the tiles of networks with gates.
        luma_only: whether the network reads luma; the chroma of RGB images is then enlarged bicubically.
    """
    convention = replace(convention, metrics=("psnr",))
    chosen, scale = [], task.scale
    for path in paths[:IMAGES]:
        image = read_image(path)
        check_large_enough(path, image.shape[:2], task, [convention])
        degraded, truth = task.prepare(path, image, convention)
        top, left = ((side - min(side, SIDE // scale)) // 2 for side in degraded.shape[:2])
        degraded = degraded[top : top + SIDE // scale, left : left + SIDE // scale]
        truth = truth[top * scale :, left * scale :][: len(degraded) * scale, : degraded.shape[1] * scale]
        pixel = image[:1, :1]  # tells whether the file is grey
        chosen.append(tuple(part.copy() for part in (degraded, truth, pixel)))  # a view would keep whole images

    @torch.no_grad()
    def measure(network: nn.Module) -> dict[str, float | np.ndarray]:
        network = copied(network).eval()  # a copy: training goes on unchanged, to the bit
        tiling = tiling_of(network, patch)
        method = ColourByLuma(network, scale) if luma_only and convention.given == "rgb" else network
        with parametrize.cached():  # weights are normalised once, not for each tile
            restored = [restore(method, low, scale, tiling) for low, _, _ in chosen]
        pairs = zip(restored, chosen, strict=True)
        psnr = mean(score(output, truth, pixel, convention)["psnr"] for output, (_, truth, pixel) in pairs)
        shown = zip(paths[:SHOWN], restored, strict=False)
        return {"psnr": psnr, **{f"restored/{path.name}": output for path, output in shown}}

    return measure
