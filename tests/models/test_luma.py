"""Colour images through networks of luma."""

import numpy as np
import torch
from torch import nn

from nsr_cli.classical.bicubic import bicubic
from nsr_cli.models.luma import ColourByLuma, luma
from nsr_cli.ops.color import rgb_to_y


class Bicubic(nn.Module):
    """A network that does no better than bicubic, but for ``lift``, added to luma; without ``halo`` and ``scale``."""

    def __init__(self, lift: float = 0):
        super().__init__()
        self.lift = nn.Parameter(torch.tensor(float(lift)))

    def forward(self, x):
        return bicubic(x, 2) + self.lift


IMAGE = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_luma_is_matlabs():
    expected = rgb_to_y(IMAGE[0].permute(1, 2, 0).numpy() * 255) / 255
    np.testing.assert_allclose(luma(IMAGE)[0, 0].numpy(), expected, atol=1e-12)


def test_what_the_network_does_to_luma_happens_to_luma_alone():
    plain = ColourByLuma(Bicubic(), 2)(IMAGE)
    torch.testing.assert_close(plain, bicubic(IMAGE, 2))
    lifted = ColourByLuma(Bicubic(0.1), 2)(IMAGE)
    torch.testing.assert_close(luma(lifted), luma(plain) + 0.1, atol=1e-6, rtol=0)
    chroma = lifted - lifted.mean(dim=1, keepdim=True)  # the differences between channels
    torch.testing.assert_close(chroma, plain - plain.mean(dim=1, keepdim=True), atol=1e-6, rtol=0)
