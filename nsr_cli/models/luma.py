"""One-channel networks on colour images: luma by the network, chroma by bicubic interpolation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nsr_cli.classical.bicubic import bicubic
from nsr_cli.models.padding import padded

# MATLAB's Y in [0, 1] of RGB in [0, 1]; and the change of R, G and B for one unit of Y.
WEIGHTS, OFFSET, GAIN = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255, 255 / 219


def luma(rgb: Tensor) -> Tensor:
    """MATLAB's Y (B, 1, H, W) of RGB (B, 3, H, W), both in [0, 1]."""
    return (rgb * torch.tensor(WEIGHTS, dtype=rgb.dtype, device=rgb.device)[:, None, None]).sum(
        1, keepdim=True
    ) + OFFSET


class Adapter(nn.Module):
    """A network on images of other channels than it reads; base class.

    Args:
        network: (B, C, H, W) in [0, 1] to the restored images.
    """

    def __init__(self, network: Callable):
        super().__init__()
        self.network = network

    def restore(self, x: Tensor) -> Tensor:
        """The network's output for images of any size."""
        return padded(self.network, x)


class ColourByLuma(Adapter):
    """An RGB network from an up-scaling network of luma, as VDSR's authors restore colour images.

    Args:
        network: low-resolution Y (B, 1, H, W) in [0, 1] to Y at ``scale`` times the size.
        scale: of the network.
    """

    def __init__(self, network: nn.Module, scale: int):
        super().__init__(network)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) to (B, 3, scale * H, scale * W): bicubic, with the network's luma."""
        enlarged = bicubic(x, self.scale)
        return enlarged + (self.restore(luma(x)) - luma(enlarged)) * GAIN
