"""Folded weights, as `nsr export` writes them, for the layers that they were folded from."""

import torch
from torch import Tensor, nn

from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import is_weight_normalised


def unfold_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state under the names of ``model``, whose layers then compute what the folded ones did, to rounding.

    A folded weight becomes its norm and its direction in a weight-normalised layer, and every kernel group of a layer
    that mixes kernels alike for all inputs. What is not folded stays as it is.
    """
    state, expected = dict(state), model.state_dict()
    for name, layer in model.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        if not isinstance(layer, nn.Conv2d) or f"{prefix}weight" not in state:
            continue
        logits = f"{prefix}gate.logits"
        if isinstance(layer, SparseConv2d) and not layer.is_gated and logits not in state:
            for key in (f"{prefix}weight", f"{prefix}bias"):
                if key in state and len(state[key]) == layer.out_channels:
                    state[key] = state[key].repeat(layer.sparsity_groups, *[1] * (state[key].dim() - 1))
            if logits in expected:
                state[logits] = torch.zeros_like(expected[logits])
        if is_weight_normalised(layer):
            weight, parametrised = state.pop(f"{prefix}weight"), f"{prefix}parametrizations.weight.original"
            norm, _ = layer.parametrizations.weight[0].right_inverse(weight)
            state |= {f"{parametrised}0": norm, f"{parametrised}1": weight.where(norm > 0, 1)}
    return state
