"""Convolutions with a kernel for each sample, computed in several ways; `nsr bench` compares them."""

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

AS_GROUPS, ONE_BY_ONE, AS_PRODUCTS, FUSED = "as groups", "one by one", "as products", "fused"
HAS_TRITON = importlib.util.find_spec("triton") is not None
CHANNELS_LAST = (ONE_BY_ONE, FUSED)  # ways that are fastest with channels-last kernels; their outputs are too


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
    columns = F.unfold(x, kernels.shape[3:], dilation, padding, stride)  # (B, C_in * kh * kw, H' * W')
    columns, rows = columns.unflatten(1, (groups, -1)), kernels.flatten(2).unflatten(1, (groups, -1))
    out = torch.matmul(rows, columns).flatten(1, 2)  # (B, C_out, H' * W')
    out = out if biases is None else out + biases[..., None].to(out.dtype)
    return out.reshape(*kernels.shape[:2], *output_size(x, kernels.shape[3:], stride, padding, dilation))


def one_by_one(
    x: Tensor, kernels: Tensor, biases: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> Tensor:
    """The same as :func:`as_groups`, by a convolution for each sample."""
    return OneByOne.apply(*cast_channels_last(x, kernels, biases), (stride, padding, dilation), groups)


class OneByOne(torch.autograd.Function):
    """A convolution for each sample into one channels-last output; a sample fits a CPU's caches, a batch does not."""

    @staticmethod
    def forward(ctx, x, kernels, biases, conv, groups):
        ctx.save_for_backward(x, kernels)
        ctx.conv, ctx.groups, ctx.has_bias = conv, groups, biases is not None
        shape = *kernels.shape[:2], *output_size(x, kernels.shape[3:], *conv)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        biases = [None] * len(x) if biases is None else biases
        for place, sample, kernel, bias in zip(out.split(1), x.split(1), kernels, biases, strict=True):
            place.copy_(torch.conv2d(sample, kernel, bias, *conv, groups))
        return out

    @staticmethod
    def backward(ctx, gradient):
        x, kernels = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[1], False
        to_x = torch.empty_like(x) if wanted[0] else None
        to_kernels = torch.empty_like(kernels) if wanted[1] else None  # in the layout of the kernels
        for i, (sample, kernel, to_out) in enumerate(zip(x.split(1), kernels, gradient.split(1), strict=True)):
            to_sample, to_kernel, _ = torch.ops.aten.convolution_backward(
                to_out, sample, kernel, None, *ctx.conv, False, (0, 0), ctx.groups, wanted
            )
            if wanted[0]:
                to_x[i : i + 1] = to_sample
            if wanted[1]:
                to_kernels[i] = to_kernel
        to_biases = gradient.sum(dim=(2, 3)) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return to_x, to_kernels, to_biases, None, None


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
