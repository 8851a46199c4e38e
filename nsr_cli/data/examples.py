"""The training images, with their degraded images."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from nsr_cli.data import degrade
from nsr_cli.data.cache import cached_images
from nsr_cli.data.images import image_size, read_image
from nsr_cli.data.sampler import Example, check_size
from nsr_cli.errors import UserError
from nsr_cli.names import source_digests

SMALL = 64 * 2**20  # bytes of truths; fewer are decoded in a second or two without a cache


class Degrading(Protocol):
    """The part of a task that reading training images needs (see nsr_cli.tasks)."""

    name: str
    scale: int
    fixed: str

    def sources(self, paths: Sequence[Path]) -> list[Path]: ...

    def degraded(self, path: Path, truth: np.ndarray) -> np.ndarray: ...


def load_examples(
    paths: Sequence[Path],
    task: Degrading,
    form: str,
    patch: int,
    folder: Path,
    name: str,
    report: Callable[[str], None] = print,
) -> list[Example]:
    """The training images, degraded if the degradation is fixed for each image.

    All scales and qualities share the cache of the truths.

    Args:
        paths: of the images.
        task: of the training.
        form: of the training images: rgb, luma or grey.
        patch: side of a degraded patch; no degraded image may be smaller.
        folder: of caches.
        name: of the data set.
        report: is called with each line about the cache.

    Raises:
        UserError: an image cannot be read, is smaller than a patch, or its low-resolution partner is missing; or the
            task makes a degraded image of another kind or size.
    """
    sizes = [image_size(path) for path in paths]
    for path, (height, width) in zip(paths, sizes, strict=True):
        check_size(path.name, height // task.scale, width // task.scale, patch)
    names, large = [path.name for path in paths], sum(map(math.prod, sizes)) * (3 if form == "rgb" else 1) >= SMALL

    def load_or_make(what: str, sources: Sequence[Path], make: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        if large:
            return cached_images(folder, f"{name}-{what}", sources, names, make, report)
        return [make(number) for number in range(len(names))]

    def cut(number: int) -> np.ndarray:
        return degrade.modcrop(truths[number], task.scale)

    truths = degraded = load_or_make(form, paths, lambda number: degrade.GIVEN[form](read_image(paths[number])))
    if task.fixed:
        what, sources = f"{form}-{task.fixed}{own_digest(task)}", task.sources(paths)
        degraded = load_or_make(what, sources, lambda number: degraded_by(task, paths[number], cut(number)))
    truths = [cut(number) for number in range(len(names))]
    return [Example(*example) for example in zip(names, degraded, truths, strict=True)]


def own_digest(task: Degrading) -> str:
    """A digest of a task of the user's own, its arguments and its module, for names of caches; empty for nsr's."""
    code = source_digests([f"{type(task).__module__}.{type(task).__name__}"])
    return "-" + hashlib.sha256(f"{task} {code}".encode()).hexdigest()[:8] if code else ""


def degraded_by(task: Degrading, path: Path, truth: np.ndarray) -> np.ndarray:
    """The degraded image of a truth. Raises UserError unless it is uint8, with 1/scale of the truth's sides."""
    degraded = np.asarray(task.degraded(path, truth))
    expected = (*(side // task.scale for side in truth.shape[:2]), *truth.shape[2:])
    if degraded.dtype != np.uint8 or degraded.shape not in (expected, (*expected, 1)):
        found = f"{degraded.dtype} of shape {degraded.shape}"
        raise UserError(f"{path}: task={task.name}: its degraded image is {found}; expected uint8 of shape {expected}")
    return degraded
