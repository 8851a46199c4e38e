"""Multiply-accumulates of a convolution, sparse or not; those of gates and of mixing kernels are counted apart."""

import math

from torch import nn

from nsr_cli.layers.sparse_conv import is_gated


def macs_per_pixel(conv: nn.Conv2d) -> int:
    """Multiply-accumulates for one pixel of the output: those of one convolution, or of k in the exact form (Eq. 8)."""
    kernel = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
    branches = conv.sparsity_groups if is_gated(conv) and conv.form == "exact" and not conv.chooses else 1
    return conv.out_channels * kernel * branches


def macs_per_sample(conv: nn.Conv2d) -> int:
    """Multiply-accumulates for each sample, for the gate and for mixing kernels.

    0 if the kernel is the same for every input, because it can be merged ahead of time.
    """
    if not is_gated(conv):
        return 0
    layers = (conv.gate.hidden, conv.gate.linear) if conv.gate is not None else ()
    gate = sum(layer.weight.numel() for layer in layers if layer is not None)
    return gate + (conv.weight.numel() if conv.form == "reduced" and not conv.chooses else 0)
