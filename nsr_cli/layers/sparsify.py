"""Attach sparse convolutions to any network: one call swaps its convolutions."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from nsr_cli.layers.sparse_conv import SparseConv2d


def sparsify(
    model: nn.Module,
    sparsity_groups: int = 4,
    cardinality: int = 1,
    gate: str = "softmax",
    tau: float = 1.0,
    *,
    where: Callable[[str, nn.Conv2d], bool] = lambda name, conv: True,
    keep_weights: bool = False,
    **knobs,
) -> list[str]:
    """Replace the convolutions of ``model``, in place, by sparse ones of the same shape.

    Replaced are plain ``nn.Conv2d``, and those under torch's ``parametrizations.weight_norm``, whose sparse twins
    are weight-normalised too. Left alone are subclasses of ``nn.Conv2d``, grouped and transposed convolutions,
    convolutions with other parametrisations (spectral norm, ...), and with hooks (the older
    ``torch.nn.utils.weight_norm``, pruning, ...).

    Args:
        model: any torch module.
        sparsity_groups, gate, tau: as in :class:`SparseConv2d`.
        cardinality: d, at least 1; in a layer, d is at most the layer's channels, as with an RGB output of 3.
        where: told the name and the convolution, says whether to replace it.
        keep_weights: start every group from the present kernel, so that a trained network computes what it
            did before (softmax, gumbel). By default the groups start from fresh, distinct kernels.
        **knobs: gate_hidden, learn_tau, form, gate_options, as in :class:`SparseConv2d`.

    Returns:
        The names of the replaced convolutions.

    Raises:
        ValueError: nothing to replace, or settings that do not fit a layer (which is named).
    """
    chosen = {n: m for n, m in model.named_modules(remove_duplicate=False) if replaceable(m) and where(n, m)}
    if not chosen or "" in chosen:
        found = "is itself a convolution" if chosen else "has no plain convolution that `where` admits"
        raise ValueError(f"sparsify replaces convolutions inside of a module; {type(model).__name__} {found}")
    twins = {}  # all exist before the first is put in place, so that an error leaves the model as it was
    for name, conv in chosen.items():
        try:
            if conv not in twins:  # a module that is used twice stays one module
                own = {"sparsity_groups": sparsity_groups, "cardinality": min(cardinality, conv.out_channels)}
                twins[conv] = sparse_twin(conv, keep_weights, **own, gate=gate, tau=tau, **knobs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, conv in chosen.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, twins[conv])
    return list(chosen)


def replaceable(module: nn.Module) -> bool:
    """Whether ``module`` is an ungrouped convolution that computes just what ``nn.Conv2d`` does."""
    if parametrize.type_before_parametrizations(module) is not nn.Conv2d or module.groups > 1:
        return False
    if module._forward_pre_hooks or module._forward_hooks:
        return False
    return not parametrize.is_parametrized(module) or is_weight_normalised(module)


def is_weight_normalised(conv: nn.Conv2d) -> bool:
    """Whether torch's weight normalisation is there, and no other parametrisation."""
    found = {name: [type(p) for p in chain] for name, chain in getattr(conv, "parametrizations", {}).items()}
    return found == {"weight": [parametrizations._WeightNorm]}


def sparse_twin(conv: nn.Conv2d, keep_weights: bool, **sparsity) -> SparseConv2d:
    """The sparse convolution of the shape, device, dtype and weight normalisation of ``conv``."""
    twin = SparseConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
        **sparsity,
    ).to(conv.weight)
    if keep_weights:
        with torch.no_grad():
            for own, former in ((twin.weight, conv.weight), (twin.bias, conv.bias)):
                if own is not None:
                    own.copy_(former.repeat(twin.sparsity_groups, *[1] * (former.dim() - 1)))
    if is_weight_normalised(conv):
        parametrizations.weight_norm(twin, dim=conv.parametrizations.weight[0].dim)
    return twin.train(conv.training)
