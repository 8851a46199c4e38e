"""Convolutions with a kernel for each sample, computed in several ways; `nsr bench` compares them."""

import importlib.util
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nsr_cli.layers.gates import pooling_dtype
from nsr_cli.layers.half import is_in_software

Pair = tuple[int, int]

AS_GROUPS, ONE_BY_ONE, AS_PRODUCTS, FUSED = "as groups", "one by one", "as products", "fused"
HAS_TRITON = importlib.util.find_spec("triton") is not None
CHANNELS_LAST = (ONE_BY_ONE, FUSED)  # ways that are fastest with channels-last kernels; their outputs are too


class After(NamedTuple):
    """What follows a convolution. Done for each sample while it is cached, it takes no pass through memory.

    Attributes:
        relu: whether to apply ReLU.
        residual: (B, C_out, H', W') that is added last; None for nothing.
        pools: whether to return the global average of the result too.
    """

    relu: bool = False
    residual: Tensor | None = None
    pools: bool = False

    def apply(self, out: Tensor) -> Tensor | tuple[Tensor, None]:
        """Apply it to the output of a convolution. The global average is left to the reader, as None."""
        out = F.relu(out) if self.relu else out
        out = out if self.residual is None else self.residual + out
        return (out, None) if self.pools else out

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether :func:`one_by_one` can do it with outputs of a dtype."""
        return self.residual is None or (self.residual.dtype == dtype and not self.relu)


NOTHING = After()


def computed_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which x is convolved: that of autocast if it is on, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def cast_channels_last(x: Tensor, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """x, channels-last, and the tensors; all in the dtype of autocast if it is on."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = computed_dtype(x)
        x, *tensors = (None if t is None else t.to(dtype) for t in (x, *tensors))
    return x.contiguous(memory_format=torch.channels_last), *tensors


def output_size(x: Tensor, kernel: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> list[int]:
    """[H', W'] of the output of a convolution with kernels (kh, kw)."""
    sides = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    return [(side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in sides]


def as_groups(
    x: Tensor, kernels: Tensor, biases: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> Tensor:
    """The samples as groups of one convolution, as in the authors' code.

    Args:
        x: input (B, C_in, H, W).
        kernels: (B, C_out, C_in / groups, kh, kw).
        biases: (B, C_out) or None.
        stride, padding, dilation, groups: of each sample's convolution.

    Returns:
        (B, C_out, H', W')
    """
    folded = x.reshape(1, -1, *x.shape[2:])  # (1, B * C_in, H, W)
    biases = None if biases is None else biases.flatten()
    out = F.conv2d(folded, kernels.flatten(0, 1), biases, stride, padding, dilation, groups=x.shape[0] * groups)
    return out.reshape(*kernels.shape[:2], *out.shape[2:])


def as_products(
    x: Tensor, kernels: Tensor, biases: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> Tensor:
    """The same as :func:`as_groups`, by a matrix product for each sample, of its kernels and its unfolded input."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    window = [int(side) for side in kernels.shape[3:]]  # numbers, which exporters of traces need
    columns = F.unfold(x, window, dilation, padding, stride)  # (B, C_in * kh * kw, H' * W')
    columns, rows = columns.unflatten(1, (groups, -1)), kernels.flatten(2).unflatten(1, (groups, -1))
    out = torch.matmul(rows, columns).flatten(1, 2)  # (B, C_out, H' * W')
    out = out if biases is None else out + biases[..., None].to(out.dtype)
    return out.reshape(*kernels.shape[:2], *output_size(x, window, stride, padding, dilation))


def one_by_one(
    x: Tensor,
    kernels: Tensor,
    biases: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int = 1,
    after: After = NOTHING,
) -> Tensor | tuple[Tensor, Tensor | None]:
    """The same as :func:`as_groups`, by a convolution for each sample; it does what follows too.

    Returns:
        (B, C_out, H', W'); if ``after`` pools, also its global average (B, C_out), or None where it was not computed.
    """
    if not after.fits(computed_dtype(x)):
        return after.apply(one_by_one(x, kernels, biases, stride, padding, dilation, groups))
    tensors = cast_channels_last(x, kernels, biases, after.residual)
    settings, dtype = ((stride, padding, dilation), groups, (after.relu, after.pools)), computed_dtype(x)
    if is_in_software(x.device, dtype) and tensors[1].dtype == dtype:  # others are refused by torch
        with torch.autocast(x.device.type, enabled=False):
            out, average = OneByOne.apply(*(None if t is None else t.float() for t in tensors), *settings)
        out = out.to(dtype)
    else:
        out, average = OneByOne.apply(*tensors, *settings)
    return (out, average) if after.pools else out


class OneByOne(torch.autograd.Function):
    """A convolution for each sample into one channels-last output; a sample fits a CPU's caches, a batch does not."""

    @staticmethod
    def forward(ctx, x, kernels, biases, residual, conv, groups, after):
        relu, pools = after
        shape = *kernels.shape[:2], *output_size(x, kernels.shape[3:], *conv)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        none, averages = [None] * len(x), []
        biases, residuals = none if biases is None else biases, none if residual is None else residual.split(1)
        samples = zip(out.split(1), x.split(1), kernels, biases, residuals, strict=True)
        for place, sample, kernel, bias, added in samples:
            convolved = torch.conv2d(sample, kernel, bias, *conv, groups)
            if added is not None:
                torch.add(added, convolved, out=place)
            elif relu:
                torch.clamp_min(convolved, 0, out=place)
            else:
                place.copy_(convolved)
            if pools:
                averages.append(place.mean(dim=(2, 3), dtype=pooling_dtype(x.dtype)))
        ctx.save_for_backward(x, kernels, out if relu else None)
        ctx.conv, ctx.groups = conv, groups
        return out, torch.cat(averages) if pools else None

    @staticmethod
    def backward(ctx, gradient, to_averages):
        x, kernels, rectified = ctx.saved_tensors
        of_x, of_kernels, of_biases, of_residual = ctx.needs_input_grad[:4]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        none = shares = [None] * len(x)
        if to_averages is not None:  # each pixel has the same share of an average
            share = (to_averages / math.prod(gradient.shape[2:])).to(gradient.dtype)[:, :, None, None]
            if of_residual:
                gradient = gradient + share
            else:
                shares = share.split(1)
        rectified = none if rectified is None else rectified.split(1)
        to_x = torch.empty_like(x) if of_x else None
        to_kernels = torch.empty_like(kernels) if of_kernels else None  # in the layout of the kernels
        to_biases = []
        samples = zip(x.split(1), kernels, gradient.split(1), shares, rectified, strict=True)
        for i, (sample, kernel, to_out, share, result) in enumerate(samples):
            to_out = to_out if share is None else to_out + share
            to_out = to_out if result is None else torch.ops.aten.threshold_backward(to_out, result, 0)
            to_sample, to_kernel, _ = torch.ops.aten.convolution_backward(
                to_out, sample, kernel, None, *ctx.conv, False, (0, 0), ctx.groups, (of_x, of_kernels, False)
            )
            if of_x:
                to_x[i : i + 1] = to_sample
            if of_kernels:
                to_kernels[i] = to_kernel
            if of_biases:
                to_biases.append(to_out.sum(dim=(2, 3)))
        to_biases = torch.cat(to_biases) if of_biases else None
        return to_x, to_kernels, to_biases, gradient if of_residual else None, None, None, None


def fused(
    x: Tensor, kernels: Tensor, biases: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> Tensor:
    """The same as :func:`as_groups`, in one launch of a Triton kernel on a GPU; see :mod:`nsr_cli.layers.fused`.

    Raises:
        ValueError: the kernel does not support the convolution, or there is no GPU or no Triton.
    """
    if not is_fusible(x, stride, groups):
        found = f"stride {stride}, {groups} groups, {computed_dtype(x)} on {x.device.type}"
        raise ValueError(f"way=fused: expected stride 1, one group, 16 or 32 bits, Triton and a GPU; got {found}")
    from nsr_cli.layers.fused import Fused

    return Fused.apply(*cast_channels_last(x, kernels, biases), padding, dilation)


def is_fusible(x: Tensor, stride: Pair, groups: int) -> bool:
    """Whether :func:`fused` computes a convolution of x."""
    fits = stride == (1, 1) and groups == 1 and computed_dtype(x).itemsize <= 4
    return fits and x.is_cuda and HAS_TRITON


EVERYWHERE = {AS_GROUPS: as_groups, ONE_BY_ONE: one_by_one, AS_PRODUCTS: as_products}
WAYS = EVERYWHERE | {FUSED: fused}
