"""The sparse convolution as Eq. 10 says it, in plain loops."""

import torch
import torch.nn.functional as F

from nsr_cli.layers.sparse_conv import SparseConv2d


def by_definition(layer: SparseConv2d, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Eq. 10, one sample, one sparsity group, one output channel at a time."""
    k, d, channels = layer.sparsity_groups, layer.cardinality, layer.out_channels
    outputs = []
    for b in range(len(x)):
        rows = []
        for c in range(channels):
            j = c * d // channels  # the cardinal group of channel c
            kernel = sum(gate[b, i, j] * layer.weight[i * channels + c] for i in range(k))
            bias = sum(gate[b, i, j] * layer.bias[i * channels + c] for i in range(k))
            first = c * layer.groups // channels * kernel.shape[0]  # of the input channels that c sees
            seen = x[b : b + 1, first : first + kernel.shape[0]]
            rows.append(F.conv2d(seen, kernel[None], bias[None], layer.stride, layer.padding, layer.dilation))
        outputs.append(torch.cat(rows, dim=1))
    return torch.cat(outputs)
