"""WDSR (Yu et al., 2018), the body of every network of the paper, with sparse convolutions inside its blocks."""

from dataclasses import fields

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from nsr_cli.layers.gates import INPUT_INDEPENDENT
from nsr_cli.layers.per_sample import After
from nsr_cli.layers.sparse_conv import SparseConv2d, is_gated
from nsr_cli.layers.sparsity import Sparsity


def normalised(conv: nn.Conv2d, gain: float) -> nn.Conv2d:
    """Weight-normalise a convolution in place, per output kernel, with norm ``gain`` and zero bias; returns it."""
    nn.init.zeros_(conv.bias)
    weight_norm(conv, dim=0)
    nn.init.constant_(conv.parametrizations.weight.original0, gain)
    return conv


class Block(nn.Module):
    """A residual block: 3x3 to ``inner`` channels, ReLU, 3x3 back to ``units``, plus the input; one gate or two."""

    def __init__(self, units: int, inner: int, blocks: int, shared_gate: bool, **sparsity):
        super().__init__()
        self.shared_gate = shared_gate
        first = SparseConv2d(units, inner, 3, padding=1, **sparsity)
        second = SparseConv2d(inner, units, 3, padding=1, own_gate=not shared_gate, **sparsity)
        self.conv1, self.conv2 = normalised(first, gain=2.0), normalised(second, gain=blocks**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        if not (is_gated(self.conv1) and is_gated(self.conv2)):
            return x + self.conv2(F.relu(self.conv1(x)))
        if self.shared_gate:
            gate = self.conv1.gate(x)  # (B, k, d)
            return self.conv2(self.conv1(x, gate, after=After(relu=True)), gate, after=After(residual=x))
        hidden, average = self.conv1(x, after=After(relu=True, pools=True))
        return self.conv2(hidden, average=average, after=After(residual=x))


class WDSR(nn.Module):
    """The residual network of the paper: a body at the input's resolution, and a 5x5 skip beside it.

    Args:
        scale: up-scaling factor; 1 for denoising and JPEG artifacts (the skip is then the identity).
        channels: 3 for RGB, 1 for grey or luma.
        blocks, units, width: number of residual blocks, their channels, and the factor by which a block widens
            them. A width may be fractional: a block has floor(units * width) channels inside.
        shared_gate: one gate, computed from a block's input, for both its convolutions.
        **sparsity: gate, sparsity_groups, cardinality, tau, ... as in SparseConv2d, for both convolutions of each
            block; without them, the convolutions are plain.

    Raises:
        ValueError: a knob is unknown or out of its range, or a shared gate would not depend on its input.
    """

    mean = 0.5  # of the images; subtracted before and added after

    def __init__(
        self,
        scale: int,
        channels: int = 3,
        blocks: int = 16,
        units: int = 32,
        width: float = 4,
        shared_gate: bool = False,
        **sparsity,
    ):
        super().__init__()
        known = [knob.name for knob in fields(Sparsity)]
        if unknown := [name for name in sparsity if name not in known]:
            raise ValueError(f"WDSR takes no {unknown[0]}; beside its sizes it takes: {', '.join(known)}")
        sparsity = {"gate": "none", "sparsity_groups": 1} | sparsity | {"shared_gate": shared_gate}
        if shared_gate and sparsity["gate"] in INPUT_INDEPENDENT:
            raise ValueError(
                f"shared_gate=True: gate={sparsity['gate']} does not look at its input; expected shared_gate=False"
            )
        self.scale = scale
        self.halo = 2 + 2 * blocks  # pixels of the input that an output pixel sees in each direction, gates aside
        self.head = normalised(nn.Conv2d(channels, units, 3, padding=1), gain=1.0)
        self.body = nn.Sequential(*[Block(units, int(units * width), blocks, **sparsity) for _ in range(blocks)])
        self.tail = normalised(nn.Conv2d(units, scale**2 * channels, 3, padding=1), gain=1.0)
        self.skip = (
            nn.Identity()
            if scale == 1
            else normalised(nn.Conv2d(channels, scale**2 * channels, 5, padding=2), gain=1.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W)."""
        x = x - self.mean
        return self.combine(self.deep(x), self.skip(x))

    def deep(self, x: Tensor) -> Tensor:
        """The output of head, body and tail, (B, scale^2 * C, H, W), for images less the mean, (B, C, H, W)."""
        return self.tail(self.body(self.head(x)))

    def combine(self, deep: Tensor, skip: Tensor) -> Tensor:
        """The restored images from the outputs of :meth:`deep` and of the skip."""
        return F.pixel_shuffle(skip + deep, self.scale) + self.mean
