"""Multiply-accumulates as the paper counts them: of convolutions, per pixel of the input."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nsr_cli.layers.cost import macs_per_pixel, macs_per_sample
from nsr_cli.models.evaluating import evaluating
from nsr_cli.models.padding import at_least
from nsr_cli.models.tiled import device_of


@dataclass(frozen=True)
class Cost:
    """What one pixel of the input costs.

    Attributes:
        macs: multiply-accumulates of the convolutions (the paper's FLOPs, which leave the gates out).
        overhead: multiply-accumulates of gates and kernel mixing, shared by the pixels of a tile. Kernels that are
            mixed alike for every input (``uniform``, ``static``) have none: they can be merged ahead of time.
        parameters: learned numbers of the network.
    """

    macs: float
    overhead: float
    parameters: int


PROBE = 8  # side of the input that a convolutional network is counted on; its cost per pixel does not depend on it
LARGE = 64  # the same for other networks, which may pool, or pad to windows


def count(model: nn.Module, channels: int, tile: int) -> Cost:
    """Cost per input pixel of ``model``, whose gates see tiles of ``tile`` pixels a side.

    Args:
        model: a network of NCHW images; it is run once, on zeros. It is convolutional if it has ``halo``.
        channels: channels of its input.
        tile: side of the tiles that share one gate decision, in input pixels.
    """
    convolutions, extra = [], []

    def visit(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            convolutions.append(inputs[0].numel() // module.in_channels * module.weight.numel())
        elif isinstance(module, nn.modules.conv._ConvNd):
            output = output[0] if isinstance(output, tuple) else output  # beside its global average
            macs = macs_per_pixel(module) if isinstance(module, nn.Conv2d) else module.weight.numel()
            convolutions.append(output.numel() // module.out_channels * macs)
        if isinstance(module, nn.Conv2d):
            extra.append(macs_per_sample(module))

    hooks = [module.register_forward_hook(visit) for module in model.modules()]
    side = at_least(PROBE if hasattr(model, "halo") else LARGE, model)
    try:
        with torch.no_grad(), evaluating(model):
            model(torch.zeros(1, channels, side, side, device=device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(sum(convolutions) / side**2, sum(extra) / tile**2, parameters)
