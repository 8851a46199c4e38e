"""Merging convolutions whose kernel does not depend on the input into plain ones, with weight normalisation folded."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, skip_init

from nsr_cli.layers.sparse_conv import SparseConv2d, is_gated
from nsr_cli.layers.sparsify import computes_by_its_weight, is_weight_normalised


def mergeable(module: nn.Module) -> bool:
    """Whether ``module`` is a convolution, sparse or not, without hooks, whose kernel is the same for every input."""
    is_known = parametrize.type_before_parametrizations(module) in (nn.Conv2d, SparseConv2d)
    return is_known and not is_gated(module) and computes_by_its_weight(module)


@torch.no_grad()
def merge(layer: nn.Conv2d) -> nn.Conv2d:
    """The plain ``nn.Conv2d`` that computes, bit by bit, what ``layer`` computes in evaluation.

    Args:
        layer: ``nn.Conv2d`` or :class:`SparseConv2d` with the gate ``none``, ``uniform`` or ``static``, under
            torch's ``parametrizations.weight_norm`` or not. It is not changed.

    Raises:
        ValueError: the kernel depends on the input, or the layer has hooks, or is of another kind.
    """
    if not mergeable(layer):
        found = f"gate={layer.sparsity.gate}" if is_gated(layer) else type(layer).__name__
        raise ValueError(f"{found}: expected a convolution whose kernel is the same for every input, without hooks")
    if isinstance(layer, SparseConv2d):
        weight, bias = layer.shared_kernel(hard=layer.inference == "hard" and layer.sparsity_groups > 1)
    else:
        weight, bias = layer.weight, layer.bias
    plain = skip_init(  # draws no random numbers
        nn.Conv2d,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        bias is not None,
        layer.padding_mode,
        device=weight.device,
        dtype=weight.dtype,
    )
    plain.weight = nn.Parameter(weight.clone())  # keeps the memory layout
    plain.bias = None if bias is None else nn.Parameter(bias.clone())
    return plain.train(layer.training)


def copied(network: nn.Module) -> nn.Module:
    """A deep copy, also of modules that keep a computed tensor, as the older weight norm and pruning do."""
    kept = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf})


def merged(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with plain convolutions wherever the kernel does not depend on the input.

    Gated convolutions stay, with folded weight normalisation. All other layers, as those with hooks, are copied as
    they are.
    """
    network = copied(network)
    if mergeable(network):
        return merge(network)
    plain = {module: merge(module) for module in network.modules() if mergeable(module)}  # a shared module stays shared
    for parent in [*network.modules()]:
        for name, child in parent._modules.items():  # named_children omits the second use of a shared module
            if child in plain:
                setattr(parent, name, plain[child])
        if is_gated(parent) and is_weight_normalised(parent):
            fold(parent)
    return network


@torch.no_grad()
def fold(module: nn.Module) -> None:
    """Make parametrised tensors parameters of their present values, in place.

    Torch's ``remove_parametrizations`` would break the module that this one was copied from: they share a class.
    """
    values = {name: getattr(module, name).clone() for name in module.parametrizations}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value))
