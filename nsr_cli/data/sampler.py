"""Training patches: aligned random crops with flips and transposition, a pure function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from nsr_cli.errors import UserError


@dataclass(frozen=True)
class Example:
    """A training image: degraded (h, w[, C]) and truth (h * scale, w * scale[, C]), uint8."""

    name: str
    degraded: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Patches, degraded (B, C, p, p) and truth (B, C, p * scale, p * scale), and the names of their files.

    Patches are uint8 in 0..255; degraded patches with noise are float32, nominally in [0, 1].
    """

    degraded: Tensor
    truth: Tensor
    names: list[str]


class Crop(NamedTuple):
    """A patch: the index of its image, its top left corner in degraded pixels, and one of a square's eight symmetries.

    Bit 0 of ``flip`` reverses the rows, bit 1 the columns, and bit 2 then transposes.
    """

    image: int
    top: int
    left: int
    flip: int


def check_size(name: str, height: int, width: int, patch: int) -> None:
    """Raise UserError when a degraded image is smaller than a patch."""
    if min(height, width) < patch:
        raise UserError(
            f"{name} is {width}x{height} once degraded: smaller than a patch of {patch}x{patch} (patch={patch})"
        )


class PatchSampler:
    """Draws every image ``patches_per_image`` times an epoch, in an order that is shuffled for each epoch.

    Args:
        examples: the training images, all with the same number of channels.
        scale: side of a truth over the side of its degraded image.
        patch: side of a degraded patch in pixels.
        batch: patches in a step.
        patches_per_image: in an epoch.
        seed: of order, places, flips and noise.
        sigma: standard deviation of noise added to each patch, in 0..255; 0 for none.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        scale: int,
        patch: int,
        batch: int,
        patches_per_image: int,
        seed: int,
        sigma: float = 0,
    ):
        for example in examples:
            check_size(example.name, *example.degraded.shape[:2], patch)
        self.examples, self.scale, self.patch, self.batch, self.sigma = examples, scale, patch, batch, sigma
        self.epoch_size, self.seed = len(examples) * patches_per_image, seed
        self.order = lru_cache(2)(self._order)

    def _generator(self, purpose: int, count: int) -> np.random.Generator:
        """An independent generator for every (seed, purpose, count), by Philox's key and counter."""
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose], counter=[0, 0, 0, count]))

    def _order(self, epoch: int) -> np.ndarray:
        return self._generator(0, epoch).permutation(self.epoch_size) % len(self.examples)

    def crops(self, step: int) -> tuple[list[Crop], np.random.Generator]:
        """The crops of a step, counted from 0, and the generator that then draws their noise."""
        draws = range(step * self.batch, (step + 1) * self.batch)
        indices = [int(self.order(draw // self.epoch_size)[draw % self.epoch_size]) for draw in draws]
        generator = self._generator(1, step)
        places, flips = generator.random((self.batch, 2)).tolist(), generator.integers(0, 8, self.batch).tolist()
        crops = []
        for index, (down, right), flip in zip(indices, places, flips, strict=True):
            height, width = self.examples[index].degraded.shape[:2]
            top, left = int(down * (height - self.patch + 1)), int(right * (width - self.patch + 1))
            crops.append(Crop(index, top, left, flip))
        return crops, generator

    def noise(self, generator: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        """Noise for degraded patches in [0, 1]: float32 of a shape, with standard deviation sigma / 255."""
        noise = generator.standard_normal(shape, dtype=np.float32)
        noise *= self.sigma / 255
        return noise

    def __call__(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        crops, generator = self.crops(step)
        chosen = [self.examples[crop.image] for crop in crops]
        degraded = torch.from_numpy(_cut([example.degraded for example in chosen], crops, self.patch, 1))
        truth = torch.from_numpy(_cut([example.truth for example in chosen], crops, self.patch, self.scale))
        if self.sigma:
            degraded = degraded.float().div_(255).add_(torch.from_numpy(self.noise(generator, degraded.shape)))
        return Batch(degraded, truth, [example.name for example in chosen])


def _cut(images: Sequence[np.ndarray], crops: Sequence[Crop], patch: int, scale: int) -> np.ndarray:
    """The patches of images, one crop of each, (B, C, p * scale, p * scale); crops are in degraded pixels."""
    side, channels = patch * scale, 1 if images[0].ndim == 2 else images[0].shape[2]
    patches = np.empty((len(images), channels, side, side), np.uint8)
    for planes, image, (_, top, left, flip) in zip(patches, images, crops, strict=True):
        window = image[top * scale : top * scale + side, left * scale : left * scale + side]
        cv2.split(np.ascontiguousarray(_augment(window, flip)), list(planes))
    return patches


def _augment(window: np.ndarray, flip: int) -> np.ndarray:
    """The window (h, w[, C]) flipped and transposed, by OpenCV: in a third of the time of NumPy's strided copies."""
    if flip & 3:
        window = cv2.flip(window, (None, 0, 1, -1)[flip & 3])
    return cv2.transpose(window) if flip & 4 else window
