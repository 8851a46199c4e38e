"""Unfolding the weights that `nsr export` has folded, for the layers of the original network."""

import torch
from torch import Tensor, nn

from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import is_weight_normalised


def unfold_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A folded state dict with the names of ``model``, whose layers then compute the same, up to rounding.

    In a weight-normalised layer a folded weight becomes its norm and direction. In a layer with input-independent
    mixing it becomes every kernel group. Tensors that are not folded stay as they are.
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
