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
) -> list[str]:
    """Replace the convolutions of ``model``, in place, by sparse ones of the same shape.

    Args:
        model: any torch module. Grouped and transposed convolutions are left alone.
        sparsity_groups, cardinality, gate, tau: as in :class:`SparseConv2d`.
        where: told the name and the convolution, says whether to replace it.
        keep_weights: start every group from the present kernel, so that a trained network computes what it
            did before (softmax, gumbel). By default the groups start from fresh, distinct kernels.

    Returns:
        The names of the replaced convolutions.

    Raises:
        ValueError: nothing to replace, or settings that do not fit a layer (which is named).
    """

    def eligible(name: str, module: nn.Module) -> bool:
        plain = isinstance(module, nn.Conv2d) and not isinstance(module, (SparseConv2d, nn.ConvTranspose2d))
        return plain and module.groups == 1 and where(name, module)

    chosen = {n: m for n, m in model.named_modules(remove_duplicate=False) if eligible(n, m)}
    if not chosen or "" in chosen:
        found = "is itself a convolution" if chosen else "has no convolution with groups=1 that `where` admits"
        raise ValueError(f"sparsify replaces convolutions inside of a module; {type(model).__name__} {found}")
    twins = {}  # all exist before the first is put in place, so that an error leaves the model as it was
    for name, conv in chosen.items():
        try:
            if conv not in twins:  # a module that is used twice stays one module
                twins[conv] = sparse_twin(conv, sparsity_groups, cardinality, gate, tau, keep_weights)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, conv in chosen.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, twins[conv])
    return list(chosen)


def sparse_twin(
    conv: nn.Conv2d, sparsity_groups: int, cardinality: int, gate: str, tau: float, keep_weights: bool
) -> SparseConv2d:
    """The sparse convolution of the shape, device, dtype and weight normalisation of ``conv``."""
    twin = SparseConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.bias is not None,
        conv.padding_mode,
        sparsity_groups=sparsity_groups,
        cardinality=cardinality,
        gate=gate,
        tau=tau,
    ).to(conv.weight)
    if keep_weights:
        with torch.no_grad():
            for own, former in ((twin.weight, conv.weight), (twin.bias, conv.bias)):
                if own is not None:
                    own.copy_(former.repeat(twin.sparsity_groups, *[1] * (former.dim() - 1)))
    if parametrize.is_parametrized(conv, "weight"):
        parametrizations.weight_norm(twin, dim=0)
    return twin.train(conv.training)
