"""ARCNN (Dong et al., ICCV 2015): four convolutions that remove JPEG artifacts."""

import torch.nn.functional as F
from torch import Tensor, nn


class ARCNN(nn.Module):
    """Dong et al., "Compression Artifacts Reduction by a Deep Convolutional Network" (ICCV 2015).

    106,448 multiply-accumulates per input pixel (the NSR paper prints 0.11 million). Borders are replicated
    before each convolution, as in the authors' code.
    """

    halo = 4 + 3 + 0 + 2

    def __init__(self):
        super().__init__()
        self.extract = nn.Conv2d(1, 64, 9, padding=4, padding_mode="replicate")
        self.enhance = nn.Conv2d(64, 32, 7, padding=3, padding_mode="replicate")
        self.map = nn.Conv2d(32, 16, 1)
        self.reconstruct = nn.Conv2d(16, 1, 5, padding=2, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """Degraded luma (B, 1, H, W) in [0, 1] to restored, same shape, not clipped."""
        x = F.relu(self.extract(x))
        x = F.relu(self.enhance(x))
        x = F.relu(self.map(x))
        return self.reconstruct(x)
