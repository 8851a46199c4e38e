"""Training patches: aligned random crops with flips and transpose, a pure function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    """degraded (B, C, p, p) and truth (B, C, p * scale, p * scale), float32 in [0, 1]; the files they come from."""

    degraded: Tensor
    truth: Tensor
    names: list[str]


def check_size(name: str, height: int, width: int, patch: int) -> None:
    """Raise UserError when a degraded image is smaller than a patch."""
    if min(height, width) < patch:
        raise UserError(
            f"{name} is {width}x{height} once degraded: smaller than a patch of {patch}x{patch} (patch={patch})"
        )


class PatchSampler:
    """Draws every image ``patches_per_image`` times an epoch, in an order shuffled anew for each.

    Args:
        examples: the training images.
        scale: side of a truth over the side of its degraded image.
        patch: side of a degraded patch.
        batch: patches in a step.
        patches_per_image: per epoch.
        seed: of order, places and flips.
        sigma: of noise added to each patch, in 0..255; 0 for none.
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
        """A generator of its own for every (seed, purpose, count): Philox runs on a key and a counter."""
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose], counter=[0, 0, 0, count]))

    def _order(self, epoch: int) -> np.ndarray:
        return self._generator(0, epoch).permutation(self.epoch_size) % len(self.examples)

    def __call__(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        draws = np.arange(step * self.batch, (step + 1) * self.batch)
        indices = [self.order(draw // self.epoch_size)[draw % self.epoch_size] for draw in draws.tolist()]
        chosen = [self.examples[index] for index in indices]
        generator = self._generator(1, step)
        places, flips = generator.random((self.batch, 2)), generator.integers(0, 8, self.batch)
        pairs = [self._crop(e, place, flip) for e, place, flip in zip(chosen, places, flips, strict=True)]
        degraded, truth = (_stack(patches) for patches in zip(*pairs, strict=True))
        if self.sigma:
            noise = generator.standard_normal(degraded.shape, dtype=np.float32)
            degraded = degraded + self.sigma / 255 * torch.from_numpy(noise)
        return Batch(degraded, truth, [example.name for example in chosen])

    def _crop(self, example: Example, place: np.ndarray, flip: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = example.degraded.shape[:2]
        top, left = int(place[0] * (height - self.patch + 1)), int(place[1] * (width - self.patch + 1))
        return (
            _augment(_window(example.degraded, top, left, self.patch), flip),
            _augment(_window(example.truth, top * self.scale, left * self.scale, self.patch * self.scale), flip),
        )


def _window(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return image[top : top + side, left : left + side]


def _augment(patch: np.ndarray, flip: int) -> np.ndarray:
    """One of the eight symmetries of the square, by the three bits of ``flip``."""
    if flip & 1:
        patch = patch[::-1]
    if flip & 2:
        patch = patch[:, ::-1]
    return patch.swapaxes(0, 1) if flip & 4 else patch


def _stack(patches: Sequence[np.ndarray]) -> Tensor:
    stacked = np.stack(patches)  # (B, p, p[, C])
    stacked = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(stacked)).float().div_(255)  # (B, C, p, p)
