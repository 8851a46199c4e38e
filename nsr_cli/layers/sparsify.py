"""Attach sparse convolutions to any network: one call replaces its convolutions.

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
        names: of the module in the network; several if it is used several times.
        shape: (C_out, C_in, kh, kw) of its kernel.
        parameters: numbers of parameters before and after, including the gate's.
        macs: multiply-accumulates for one pixel of its output, before and after.
        overhead: multiply-accumulates for each sample after, for the gate and for mixing kernels.
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

    It replaces plain ``nn.Conv2d``, and those under torch's ``parametrizations.weight_norm``, whose sparse twins are
    weight-normalised too. It keeps subclasses of ``nn.Conv2d``, grouped and transposed convolutions, convolutions
    with other parametrisations (spectral norm, ...), and with hooks (the older ``torch.nn.utils.weight_norm``,
    pruning, ...). Convolutions that share a weight share one afterwards, and have a gate each.

    Args:
        model: any torch module.
        sparsity_groups, gate, tau, inference: as in :class:`SparseConv2d`.
        cardinality: d, at least 1; a layer with fewer output channels, as an RGB output, takes d = its channels.
        where: takes the name of a convolution and the convolution; returns whether to replace it.
        keep_weights: start every group from the present kernel, so that a trained network computes the same as
            before, if its gates sum to 1 (all but sigmoid and se); frozen ones stay frozen. The groups of ``uniform``
            and ``static`` then get the same gradients, and stay alike. By default the groups start from fresh,
            distinct kernels.
        **knobs: gate_hidden, learn_tau, form and gate_options, as in :class:`SparseConv2d`.

    Returns:
        The replaced convolutions, in the order of the network; :func:`summary` makes a table of them.

    Raises:
        ValueError: there is nothing to replace, a knob is out of its range, or a convolution shares its weight with
            a layer that is not replaced. The model is then unchanged.
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
    tie_parameters(model, names, twins)
    for conv, twin in twins.items():
        for name in names[conv]:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, twin)
    return [describe_replacement(tuple(names[conv]), conv, twin) for conv, twin in twins.items()]


def tie_parameters(model: nn.Module, names: dict[nn.Conv2d, list[str]], twins: dict[nn.Conv2d, SparseConv2d]) -> None:
    """Make the twins of convolutions that share a parameter share theirs.

    Raises:
        ValueError: a convolution shares a parameter with a layer that is not replaced.
    """
    inside = {module for conv in twins for module in conv.modules()}
    kept = {p: name for name, m in model.named_modules() if m not in inside for p in m.parameters(recurse=False)}
    shared: dict[nn.Parameter, nn.Parameter] = {}
    for conv, twin in twins.items():
        for path, parameter in conv.named_parameters():
            if parameter in kept:
                other = f"{names[conv][0]} shares its {path} with {kept[parameter]}"
                raise ValueError(f"sparsify: {other}, which is not replaced; `where` must take both or neither")
            owner, _, name = path.rpartition(".")
            setattr(twin.get_submodule(owner), name, shared.setdefault(parameter, twin.get_parameter(path)))


def describe_replacement(names: tuple[str, ...], conv: nn.Conv2d, twin: SparseConv2d) -> Replaced:
    """The cost of replacing ``conv`` by ``twin``."""
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
    """Whether ``module`` is an ungrouped ``nn.Conv2d`` without hooks, plain or weight-normalised."""
    is_plain = parametrize.type_before_parametrizations(module) is nn.Conv2d and module.groups == 1
    return is_plain and computes_by_its_weight(module)


def computes_by_its_weight(conv: nn.Conv2d) -> bool:
    """Whether a convolution has no hooks, and no parametrisation but torch's weight normalisation."""
    if conv._forward_pre_hooks or conv._forward_hooks:  # also older weight and spectral norms, pruning, ...
        return False
    return not parametrize.is_parametrized(conv) or is_weight_normalised(conv)


def is_weight_normalised(conv: nn.Conv2d) -> bool:
    """Whether torch's weight normalisation is the only parametrisation of a convolution."""
    found = {name: [type(p) for p in chain] for name, chain in getattr(conv, "parametrizations", {}).items()}
    return found == {"weight": [parametrizations._WeightNorm]}


def sparse_twin(conv: nn.Conv2d, sparsity: Sparsity, inference: str, keep_weights: bool) -> SparseConv2d:
    """A sparse convolution with the shape, device, dtype and weight normalisation of ``conv``."""
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
            for target, source in ((twin.weight, conv.weight), (twin.bias, conv.bias)):
                if target is not None:
                    target.copy_(source.repeat(twin.sparsity_groups, *[1] * (source.dim() - 1)))
    if is_weight_normalised(conv):
        parametrizations.weight_norm(twin, dim=conv.parametrizations.weight[0].dim)
    for name, parameter in conv.named_parameters() if keep_weights else ():
        twin.get_parameter(name).requires_grad_(parameter.requires_grad)
    return twin.train(conv.training)
