"""The reference of PatchSampler: one patch after the other, in float from the start, written for clarity alone."""

from functools import lru_cache

import numpy as np
import torch

from nsr_cli.data.sampler import Batch


def plain_batch(examples, scale, patch, batch, patches_per_image, seed, sigma=0, *, step) -> Batch:
    """The batch of a step: what every PatchSampler must return up to the division of bytes by 255.

    Committed records were trained on exactly these numbers.
    """
    epoch_size = len(examples) * patches_per_image
    chosen = []
    for draw in range(step * batch, (step + 1) * batch):
        epoch, position = divmod(draw, epoch_size)
        chosen.append(examples[order(seed, epoch, epoch_size)[position] % len(examples)])
    draws = generator(seed, 1, step)
    places, flips = draws.random((batch, 2)), draws.integers(0, 8, batch)
    degraded = [cut(e.degraded, patch, 1, *draw) for e, *draw in zip(chosen, places, flips, strict=True)]
    truth = [cut(e.truth, patch, scale, *draw) for e, *draw in zip(chosen, places, flips, strict=True)]
    degraded, truth = torch.stack(degraded), torch.stack(truth)
    if sigma:
        noise = draws.standard_normal(degraded.shape, dtype=np.float32)
        degraded = degraded + sigma / 255 * torch.from_numpy(noise)
    return Batch(degraded, truth, [example.name for example in chosen])


def generator(seed, purpose, count):
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, 0, count]))


@lru_cache(2)
def order(seed, epoch, size):
    return generator(seed, 0, epoch).permutation(size)


def cut(image, patch, scale, place, flip):
    image = np.atleast_3d(image)
    height, width = image.shape[0] // scale, image.shape[1] // scale
    top, left = int(place[0] * (height - patch + 1)) * scale, int(place[1] * (width - patch + 1)) * scale
    piece = image[top : top + patch * scale, left : left + patch * scale]
    if flip & 1:
        piece = np.flipud(piece)
    if flip & 2:
        piece = np.fliplr(piece)
    if flip & 4:
        piece = piece.transpose(1, 0, 2)
    return torch.from_numpy(piece.transpose(2, 0, 1).copy()).float() / 255
