"""EDSR (Lim et al., CVPRW 2017), in the architecture of its authors' PyTorch release."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.errors import UserError

UPSAMPLING = {2: (2,), 3: (3,), 4: (2, 2)}  # factors of the pixel shuffles, by scale
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB mean of the training images


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class Block(nn.Module):
    """A residual block: 3x3, ReLU, 3x3, times ``residual_scale``, plus the input."""

    def __init__(self, units: int, residual_scale: float):
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = conv3x3(units, units)
        self.conv2 = conv3x3(units, units)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual_scale * self.conv2(F.relu(self.conv1(x)))


class EDSR(nn.Module):
    """Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (CVPRW 2017).

    EDSR (S) is 16 blocks x 64: 1,369,859 parameters at x2, 1,554,499 at x3, 1,517,571 at x4. EDSR (L) is
    32 x 256 with residual scale 0.1: 40,729,603 at x2. These counts omit the 24 numbers of the release's two fixed
    mean shifts, which are constants here. Multiply-accumulates per input pixel at x2: 1.37 million (the NSR paper
    prints 1.4) and 40.7 million (it prints 43, which is near the parameters at x4: 43,089,923).

    Args:
        scale: 2, 3 or 4.
        blocks, units: number of residual blocks, and their channels.
        residual_scale: factor of each block's residual.
        channels: 3 for RGB; for other numbers, the mean of the three channels' means is subtracted.
    """

    def __init__(self, scale: int, blocks: int = 16, units: int = 64, residual_scale: float = 1.0, channels: int = 3):
        super().__init__()
        if scale not in UPSAMPLING:
            raise UserError(f"no EDSR for scale {scale}; there are: {', '.join(map(str, UPSAMPLING))}")
        self.halo = 2 * blocks + 4  # head, blocks, end of body, and 2 for upsampling and tail together
        self.head = conv3x3(channels, units)
        self.body = nn.Sequential(*[Block(units, residual_scale) for _ in range(blocks)])
        self.body_end = conv3x3(units, units)
        self.factors = UPSAMPLING[scale]
        self.upsample = nn.ModuleList([conv3x3(units, factor**2 * units) for factor in self.factors])
        self.tail = conv3x3(units, channels)
        mean = DIV2K_MEAN if channels == 3 else [sum(DIV2K_MEAN) / 3] * channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W); the layers see 0..255, as published."""
        x = self.head(255 * (x - self.mean))
        x = x + self.body_end(self.body(x))
        for conv, factor in zip(self.upsample, self.factors, strict=True):
            x = F.pixel_shuffle(conv(x), factor)
        return self.tail(x) / 255 + self.mean
