"""Bicubic upscaling, as MATLAB's imresize does it."""

import torch
from torch import Tensor

from nsr_cli.ops.color import quantize
from nsr_cli.ops.resize import imresize


def bicubic(x: Tensor, scale: int) -> Tensor:
    """Upscale images by MATLAB's bicubic interpolation, computed in float64 and not clipped.

    Args:
        x: (B, C, H, W), float, any range.
        scale: up-scaling factor.

    Returns:
        (B, C, scale * H, scale * W), in the dtype and on the device of ``x``. No gradient reaches ``x``.
    """
    upscaled = imresize(x.detach().cpu().double().numpy(), scale=scale, axes=(2, 3))
    return torch.from_numpy(upscaled).to(x)


def upscale(x: Tensor, scale: int) -> Tensor:
    """Upscale images as for the bicubic rows of the tables.

    RGB is upscaled as 8-bit images, which MATLAB rounds between the two passes. A single channel is luma; it is
    upscaled in float and clipped to 16..235.

    Args:
        x: (B, C, H, W) in [0, 1].
        scale: up-scaling factor.

    Returns:
        (B, C, scale * H, scale * W) in [0, 1].
    """
    if x.shape[1] == 1:
        return bicubic(x, scale).clamp(16 / 255, 235 / 255)
    upscaled = imresize(quantize(x.cpu().numpy() * 255.0), scale=scale, axes=(2, 3))
    return torch.from_numpy(upscaled).to(x) / 255
