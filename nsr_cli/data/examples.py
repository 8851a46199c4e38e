"""What a training reads: the truths of its images, and what the task makes of them."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nsr_cli.data import degrade
from nsr_cli.data.cache import cached
from nsr_cli.data.catalog import lr_partners
from nsr_cli.data.images import image_size, read_image
from nsr_cli.data.sampler import Example, check_size

SMALL = 64 * 2**20  # bytes of truths; fewer are decoded in a second or two, and need no cache


def load_examples(
    paths: Sequence[Path],
    task: dict,
    form: str,
    patch: int,
    folder: Path,
    name: str,
    say: Callable[[str], None] = print,
    partners: Sequence[Path] = (),
) -> list[Example]:
    """The training images, degraded where that does not change from step to step.

    The truths have a cache of their own, which all scales and qualities share.

    Args:
        paths: of the images.
        task: its name, and scale, sigma or quality.
        form: rgb, luma or grey: what of an image the task works on.
        patch: side of a degraded patch, which each image must have room for.
        folder: of caches.
        name: of the data set.
        partners: low-resolution images of the paths, in the same order; none where they are made of them.

    Raises:
        UserError: an image that cannot be read, or is smaller than a patch; its low-resolution partner is missing.
    """
    scale = task.get("scale", 1)
    sizes = [image_size(path) for path in paths]
    for path, (height, width) in zip(paths, sizes, strict=True):
        check_size(path.name, height // scale, width // scale, patch)
    names, large = [path.name for path in paths], sum(map(math.prod, sizes)) * (3 if form == "rgb" else 1) >= SMALL

    def kept(what: str, sources: Sequence[Path], make: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        if large:
            return cached(folder, f"{name}-{what}", sources, names, make, say)
        return [make(number) for number in range(len(names))]

    def low_resolution(number: int) -> np.ndarray:
        partner = partners[number] if partners else None
        return degrade.low_resolution(paths[number], degrade.modcrop(truths[number], scale), scale, partner)

    truths = degraded = kept(form, paths, lambda number: degrade.GIVEN[form](read_image(paths[number])))
    if task["name"] == "sr":
        degraded = kept(f"{form}-x{scale}", [*paths, *(partners or lr_partners(paths, scale))], low_resolution)
    elif task["name"] == "dejpeg":
        quality = task["quality"]
        degraded = kept(f"{form}-q{quality}", paths, lambda number: degrade.jpeg(truths[number], quality))
    truths = [degrade.modcrop(truth, scale) for truth in truths]
    return [Example(*example) for example in zip(names, degraded, truths, strict=True)]
