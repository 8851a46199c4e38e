"""Memory layouts of networks."""

import torch
from torch import nn

from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.sparse_conv import is_gated


def best_layout(network: nn.Module, side: int) -> torch.memory_format:
    """The memory layout in which a network trains fastest, on samples of ``side`` x ``side`` pixels.

    Channels-last if convolutions run on a whole batch (as with ``se``) or on one sample at a time; contiguous if the
    samples are groups of one convolution.
    """
    device = next(network.parameters()).device
    for layer in network.modules():
        if is_gated(layer) and layer.sparsity.gate != "se":
            kernel = layer.weight.shape[0] // layer.sparsity_groups, *layer.weight.shape[1:]
            sample = torch.empty(1, layer.in_channels, side, side, device=device)
            conv = layer.stride, (layer.kernel_size[0] // 2,) * 2, layer.dilation
            if choice.by_rule(sample, kernel, *conv) not in per_sample.CHANNELS_LAST:
                return torch.contiguous_format
    return torch.channels_last


def set_layout(network: nn.Module, layout: torch.memory_format) -> None:
    """Give a network a memory layout, in place. Torch's ``to`` does so only where no tensor has five dimensions."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
