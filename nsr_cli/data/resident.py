"""Batches on a GPU: cut from images in its memory, or cut on the CPU and copied while the GPU computes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nsr_cli.data.sampler import Batch, Crop, PatchSampler

IMAGE_SHARE = 1 / 3  # share of a GPU's free memory that images may take


def sampler_on_device(sampler: PatchSampler, device: torch.device) -> "PatchSampler | ResidentSampler | SendingSampler":
    """A sampler with the same batches on a device; on a GPU with enough free memory the images lie there too."""
    if device.type != "cuda":
        return sampler
    free, _ = torch.cuda.mem_get_info(device)
    size = sum(image.nbytes for e in sampler.examples for image in (e.degraded, e.truth))
    return (ResidentSampler if size < IMAGE_SHARE * free else SendingSampler)(sampler, device)


class SendingSampler:
    """The batches of a PatchSampler, copied to a device while it computes."""

    def __init__(self, sampler: PatchSampler, device: torch.device):
        self.sampler, self.device = sampler, device

    def __call__(self, step: int) -> Batch:
        batch = self.sampler(step)
        return Batch(_to_device(batch.degraded, self.device), _to_device(batch.truth, self.device), batch.names)


class ResidentSampler:
    """The batches of a PatchSampler, cut on a device; noise is drawn on the CPU, to be the same on all devices."""

    def __init__(self, sampler: PatchSampler, device: torch.device):
        self.sampler, self.device = sampler, device
        self.names = [example.name for example in sampler.examples]
        self.degraded = Pixels([example.degraded for example in sampler.examples], device)
        self.truth = Pixels([example.truth for example in sampler.examples], device)

    def __call__(self, step: int) -> Batch:
        crops, generator = self.sampler.crops(step)
        degraded = self.degraded.cut(crops, self.sampler.patch, 1)
        truth = self.truth.cut(crops, self.sampler.patch, self.sampler.scale)
        if self.sampler.sigma:
            noise = _to_device(torch.from_numpy(self.sampler.noise(generator, degraded.shape)), self.device)
            degraded = degraded.float().div_(255).add_(noise)
        return Batch(degraded, truth, [self.names[crop.image] for crop in crops])


class Pixels:
    """uint8 images (H, W[, C]) of any sizes, concatenated on a device."""

    def __init__(self, images: Sequence[np.ndarray], device: torch.device):
        self.starts = np.cumsum([0] + [image.size for image in images]).tolist()
        self.widths = [image.shape[1] for image in images]
        self.channels = 1 if images[0].ndim == 2 else images[0].shape[2]
        self.bytes = torch.empty(self.starts[-1], dtype=torch.uint8, device=device)
        for start, image in zip(self.starts, images, strict=False):
            self.bytes[start : start + image.size] = torch.from_numpy(image.flatten())

    def cut(self, crops: Sequence[Crop], patch: int, scale: int) -> Tensor:
        """The patches of crops, (B, C, p * scale, p * scale); crops are in pixels of the degraded image."""
        side, steps = patch * scale, []
        for image, top, left, flip in crops:
            down, right = self.widths[image] * self.channels, self.channels  # bytes to the pixel below, to the next
            first = self.starts[image] + top * scale * down + left * scale * right
            if flip & 1:
                first, down = first + (side - 1) * down, -down
            if flip & 2:
                first, right = first + (side - 1) * right, -right
            steps.append((first, right, down) if flip & 4 else (first, down, right))
        first, down, right = _to_device(torch.tensor(steps), self.bytes.device).T[:, :, None, None, None]
        line = torch.arange(side, device=self.bytes.device)
        channel = torch.arange(self.channels, device=self.bytes.device)[:, None, None]
        return self.bytes[first + channel + down * line[:, None] + right * line]  # (B, C, side, side)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a copy to a GPU does not wait for its queued work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
