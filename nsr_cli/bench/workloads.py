"""The workloads of `nsr bench`: single convolutions, static and sparse, and whole networks."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nsr_cli.bench.timings import RESTORED
from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.half import autocast
from nsr_cli.layers.layout import best_layout
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.models.tiled import Tiling, restore_bands
from nsr_cli.models.wdsr import WDSR

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
PER_SAMPLE = "per sample"  # channels-last too
BRANCHES, COMPILED = "as branches", "compiled"  # Eq. 8 as it stands; torch.compile of the layer
SHAPE = ("batch", "channels", "size", "kernel")
PLAIN = 0  # sparsity groups of a static convolution


class Convolution(NamedTuple):
    """A convolution: its sparsity groups k (or PLAIN), its output channels, and the way to compute it."""

    groups: int
    outputs: int
    way: str

    def __str__(self) -> str:
        kind = f"sparse, k = {self.groups}" if self.groups else "static"
        return f"{kind}, {self.outputs} outputs, {self.way}"


def ways(groups: int, outputs: int, backward: bool, device: str = "cpu", compiled: bool = False) -> list[Convolution]:
    """One convolution in each way to compute it on a kind of device.

    Args:
        groups: k; PLAIN for a static convolution.
        outputs: number of output channels.
        backward: whether gradients are computed too.
        device: ``cpu`` or ``cuda``.
        compiled: whether torch.compile is one of the ways.
    """
    static = [*LAYOUTS, *([] if backward else [PER_SAMPLE])]  # autograd cannot write into an existing output
    sparse = [per_sample.AS_GROUPS, per_sample.ONE_BY_ONE]
    if device != "cpu":  # on a CPU products are six times as slow, and slow down the next measurement
        sparse += [per_sample.AS_PRODUCTS, *[per_sample.FUSED] * per_sample.HAS_TRITON, BRANCHES]
        sparse += [COMPILED] * compiled
    return [Convolution(groups, outputs, way) for way in (sparse if groups else static)]


def chosen_way(outputs: int, setting: Mapping, device: torch.device, backward: bool) -> str:
    """The way that the layer itself takes for this many output channels; ``setting`` as in :func:`convolutions`."""
    batch, channels, size, kernel = (setting[key] for key in SHAPE)
    dtype = torch.bfloat16 if setting["precision"] == "bf16" else torch.float32
    x = torch.empty(batch, channels, size, size, device=device, dtype=dtype)
    with torch.set_grad_enabled(backward):
        return choice.fastest(x, (outputs, channels, kernel, kernel), (1, 1), (kernel // 2,) * 2, (1, 1))


def convolutions(
    wanted: Iterable[Convolution], setting: Mapping, device: torch.device, backward: bool
) -> dict[Convolution, Callable[[], object]]:
    """Functions that run each of the wanted convolutions once.

    Args:
        wanted: convolutions.
        setting: ``batch``; ``channels`` of the input; ``size`` of a sample and ``kernel``, sides in pixels;
            ``cardinality``; ``precision``, fp32 or bf16.
        device: to run on.
        backward: compute the gradients of the input and the weights too.
    """
    batch, channels, size, kernel = (setting[key] for key in SHAPE)
    cardinality, precision = setting["cardinality"], setting["precision"]
    torch.manual_seed(0)
    image = torch.rand(batch, channels, size, size, device=device)
    image = image.bfloat16() if precision == "bf16" else image  # the input of a layer inside of a network
    inputs = {name: image.to(memory_format=layout).requires_grad_() for name, layout in LAYOUTS.items()}
    inputs |= dict.fromkeys((PER_SAMPLE, *per_sample.CHANNELS_LAST), inputs["channels-last"])
    calls = {}
    torch._dynamo.config.recompile_limit = 64  # each compiled layer counts; beyond the limit none is compiled
    for one in wanted:
        x, shape = inputs.get(one.way, inputs["contiguous"]), (channels, one.outputs, kernel)
        sparsity = (
            {"sparsity_groups": one.groups, "cardinality": cardinality, **layer_settings(one.way)} if one.groups else {}
        )
        layer = (SparseConv2d if one.groups else nn.Conv2d)(*shape, padding=kernel // 2, **sparsity)
        layer.to(device).train(backward)
        if one.way != "contiguous" and not one.groups:  # a sparse layer computes its kernels at each call
            layer.to(memory_format=torch.channels_last)
        forward = partial(run_sample_by_sample, layer, output_like(layer, x)) if one.way == PER_SAMPLE else layer
        forward = torch.compile(layer) if one.way == COMPILED else forward
        run = partial(run_forward_and_backward, inputs=[x, *layer.parameters()]) if backward else run_forward
        calls[one] = partial(run, forward, x, precision)
    return calls


def layer_settings(way: str) -> dict:
    """The settings of a layer that is computed in a given way."""
    return {"form": "exact"} if way == BRANCHES else {"way": way} if way in per_sample.WAYS else {}


def run_forward(forward: Callable, x: Tensor, precision: str) -> None:
    """Run forward, without gradients."""
    with torch.no_grad(), autocast(x.device, precision):
        forward(x)


def run_forward_and_backward(forward: Callable, x: Tensor, precision: str, inputs: list[Tensor]) -> None:
    """Run forward, and compute the gradients of ``inputs``."""
    with autocast(x.device, precision):
        out = forward(x)
    torch.autograd.grad(out, inputs, out.detach())  # any gradient serves; this one takes no time and no memory


def output_like(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """An empty channels-last tensor of the shape of the layer's output for x."""
    shape = (len(x), layer.out_channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def run_sample_by_sample(layer: nn.Conv2d, out: Tensor, x: Tensor) -> None:
    """Run a layer sample by sample, which fits a CPU's cache, into an existing output."""
    for place, sample in zip(out.split(1), x.split(1), strict=True):
        place.copy_(layer(sample))


NETWORKS = ("N/A", "softmax")
MODES = ("forward", "training step", "restoring")


def networks(
    spec: dict, precision: str, device: torch.device, compiled: bool = False
) -> dict[tuple[str, str], Callable[[], object]]:
    """Functions that run a network forward, a step of its training, or restore an image, by (network, mode).

    An image is restored in the tiles of a network with gates, by the plain network too.

    Args:
        spec: scale, blocks, units, width; groups and cardinality of the sparse network; batch and patch (in pixels).
        precision: fp32 or bf16.
        device: to run on.
        compiled: add each network through torch.compile, under another name.
    """
    scale, batch, patch = spec["scale"], spec["batch"], spec["patch"]
    torch.manual_seed(0)
    degraded = torch.rand(batch, 3, patch, patch, device=device)
    truth = torch.rand(batch, 3, scale * patch, scale * patch, device=device)
    image = torch.randint(256, (RESTORED * patch, RESTORED * patch, 3), dtype=torch.uint8).numpy()
    sizes = {name: spec[name] for name in ("scale", "blocks", "units", "width")}
    sparsity = {"gate": "softmax", "sparsity_groups": spec["groups"], "cardinality": spec["cardinality"]}
    calls = {}
    for name, settings in zip(NETWORKS, ({}, sparsity), strict=True):
        evaluated, trained = (WDSR(**sizes, **settings).to(device).train(training) for training in (False, True))
        layout = best_layout(trained, patch)
        for network in (evaluated, trained):
            network.to(memory_format=layout)
        degraded = degraded.contiguous(memory_format=layout)
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3, fused=True)
        pairs = {name: (evaluated, trained)}
        if compiled:
            pairs[f"{name}, compiled"] = torch.compile(evaluated), torch.compile(trained)
        for called, (forward, step) in pairs.items():
            calls[called, MODES[0]] = partial(run_forward, forward, degraded, precision)
            calls[called, MODES[1]] = partial(training_step, step, optimizer, degraded, truth, precision)
            calls[called, MODES[2]] = partial(restore_image, evaluated, image, scale, Tiling(patch, 4, 8), precision)
    return calls


@torch.no_grad()
def restore_image(network: nn.Module, image: np.ndarray, scale: int, tiling: Tiling, precision: str) -> None:
    """Restore an image as scoring does: weights are normalised once for all tiles."""
    with autocast(next(network.parameters()).device, precision), parametrize.cached():
        for _ in restore_bands(network, image, scale, tiling):
            pass


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, degraded: Tensor, truth: Tensor, precision: str
) -> None:
    """A step as the trainer runs it: forward, L1 loss, backward, optimizer."""
    with autocast(degraded.device, precision):
        restored = network(degraded)
    loss = F.l1_loss(restored.float(), truth)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def capture_graph(step: partial) -> Callable[[], object]:
    """Capture a training step of :func:`networks` as one CUDA graph, after three warm-up steps; returns its replay."""
    _, optimizer, *_ = step.args
    for group in optimizer.param_groups:
        group["capturable"] = True
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
