"""Attach sparse convolutions to any network: one call swaps its convolutions.

>>> from torch import nn
>>> from nsr_cli.layers.sparsify import sparsify, summary
>>> def conv(inside, out):
...     return nn.Conv2d(inside, out, 3, padding=1)
>>> net = nn.Sequential(conv(3, 32), nn.ReLU(), conv(32, 32), nn.ReLU(), conv(32, 3))  # trained, or not
>>> def deep(name, layer):
...     return layer.in_channels == layer.out_channels
>>> layers = sparsify(net, sparsity_groups=4, cardinality=8, tau=1.0, where=deep, keep_weights=True)
>>> [layer.names for layer in layers], net[2].sparsity.gate
([('2',)], 'softmax')
>>> print(summary(layers).splitlines()[-1].split()[:4])  # kernels four times, and a gate; nearly the same cost
['1', 'layers', '9,248', '38,048']
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from nsr_cli.layers.cost import macs_per_pixel, macs_per_sample
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsity import Sparsity


@dataclass(frozen=True)
class Replaced:
    """A convolution that sparsify replaced.

    Attributes:
        names: where it stands in the network; more than one where it is used more than once.
        shape: (C_out, C_in, kh, kw) of its kernel.
        parameters: before and after, those of the gate too.
        macs: multiply-accumulates for one pixel of its output, before and after.
        overhead: multiply-accumulates for each sample after, of the gate and of mixing kernels.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    overhead: int


def sparsify(
    model: nn.Module,
    sparsity_groups: int = 4,
    cardinality: int = 1,
    gate: str = "softmax",
    tau: float = 1.0,
    *,
    where: Callable[[str, nn.Conv2d], bool] = lambda name, conv: True,
    keep_weights: bool = False,
    inference: str = "soft",
    **knobs,
) -> list[Replaced]:
    """Replace the convolutions of ``model``, in place, by sparse ones of the same shape.

    Replaced are plain ``nn.Conv2d``, and those under torch's ``parametrizations.weight_norm``, whose sparse twins
    are weight-normalised too. Left alone are subclasses of ``nn.Conv2d``, grouped and transposed convolutions,
    convolutions with other parametrisations (spectral norm, ...), and with hooks (the older
    ``torch.nn.utils.weight_norm``, pruning, ...).

    Args:
        model: any torch module.
        sparsity_groups, gate, tau, inference: as in :class:`SparseConv2d`.
        cardinality: d, at least 1; in a layer, d is at most the layer's channels, as with an RGB output of 3.
        where: told the name and the convolution, says whether to replace it.
        keep_weights: start every group from the present kernel, so that a trained network computes what it
            did before, with gates that sum to 1 (all but sigmoid and se). By default the groups start from fresh,
            distinct kernels.
        **knobs: gate_hidden, learn_tau, form and gate_options, as in :class:`SparseConv2d`.

    Returns:
        What was replaced, in the order of the network; :func:`summary` makes a table of it.

    Raises:
        ValueError: nothing to replace, or a knob out of its range. The model is then as it was.
    """
    sparsity = Sparsity(sparsity_groups, cardinality, gate, tau, **knobs)
    names: dict[nn.Conv2d, list[str]] = {}  # a module that is used twice stays one module
    for name, module in model.named_modules(remove_duplicate=False):
        if replaceable(module) and where(name, module):
            names.setdefault(module, []).append(name)
    if not names or model in names:
        found = "is itself a convolution" if names else "has no plain convolution that `where` admits"
        raise ValueError(f"sparsify replaces convolutions inside of a module; {type(model).__name__} {found}")
    twins = {conv: sparse_twin(conv, sparsity, inference, keep_weights) for conv in names}
    for conv, twin in twins.items():
        for name in names[conv]:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, twin)
    return [describe_replacement(tuple(names[conv]), conv, twin) for conv, twin in twins.items()]


def describe_replacement(names: tuple[str, ...], conv: nn.Conv2d, twin: SparseConv2d) -> Replaced:
    """What replacing ``conv`` by ``twin`` costs."""
    parameters = [sum(p.numel() for p in module.parameters()) for module in (conv, twin)]
    shape = conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size
    macs = macs_per_pixel(conv), macs_per_pixel(twin)
    return Replaced(names, shape, tuple(parameters), macs, macs_per_sample(twin))


def summary(layers: list[Replaced]) -> str:
    """A table of replaced convolutions: parameters and multiply-accumulates (MACs) before and after, and their sums."""
    from tabulate import tabulate

    rows = [
        [", ".join(one.names), "x".join(map(str, one.shape)), *one.parameters, *one.macs, one.overhead]
        for one in layers
    ]
    columns = list(zip(*rows, strict=True))
    total = [f"{len(rows)} layers", "", *(sum(column) for column in columns[2:4]), "", "", sum(columns[6])]
    head = ["layer", "kernel", "parameters", "after", "MACs per pixel", "after", "MACs per sample, gate and mixing"]
    return tabulate([*rows, total], head, intfmt=",", disable_numparse=[0, 1])


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


def sparse_twin(conv: nn.Conv2d, sparsity: Sparsity, inference: str, keep_weights: bool) -> SparseConv2d:
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
        inference=inference,
        **vars(replace(sparsity, cardinality=min(sparsity.cardinality, conv.out_channels))),
    ).to(conv.weight)
    if keep_weights:
        with torch.no_grad():
            for own, former in ((twin.weight, conv.weight), (twin.bias, conv.bias)):
                if own is not None:
                    own.copy_(former.repeat(twin.sparsity_groups, *[1] * (former.dim() - 1)))
    if is_weight_normalised(conv):
        parametrizations.weight_norm(twin, dim=conv.parametrizations.weight[0].dim)
    return twin.train(conv.training)
