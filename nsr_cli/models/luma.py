"""Networks of one channel on colour images: luma by the network, chroma by bicubic interpolation."""

import torch
from torch import Tensor, nn

from nsr_cli.classical.bicubic import bicubic

# MATLAB's Y of RGB in [0, 1], itself in [0, 1]; and what one unit of Y is in each of R, G and B.
WEIGHTS, OFFSET, GAIN = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255, 255 / 219


def luma(rgb: Tensor) -> Tensor:
    """Y (B, 1, H, W) of RGB (B, 3, H, W)."""
    return (rgb * torch.tensor(WEIGHTS, dtype=rgb.dtype, device=rgb.device)[:, None, None]).sum(
        1, keepdim=True
    ) + OFFSET


class ColourByLuma(nn.Module):
    """An up-scaling network of luma made one of RGB, as VDSR's authors show colour images.

    Args:
        network: low-resolution Y (B, 1, H, W) in [0, 1] to Y at ``scale`` times the size; has ``halo`` and ``scale``.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.halo, self.scale = network, getattr(network, "halo", None), network.scale
        self.enlarges = getattr(network, "enlarges", 1)

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) to (B, 3, scale * H, scale * W): bicubic, with the network's luma."""
        enlarged = bicubic(x, self.scale)
        return enlarged + (self.network(luma(x)) - luma(enlarged)) * GAIN
