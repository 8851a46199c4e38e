"""Triton kernels that convolve each sample with its own kernel in one launch, forward and backward.

The convolution is an implicit matrix product. Rows are output pixels, columns are output channels, and the sum runs
over the taps of the window and the input channels, which are read in place. The sample is an axis of the grid. Kernels
are mixed beforehand, because mixing inside of the product would be repeated for every tile of pixels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from nsr_cli.layers.per_sample import Pair, output_size

PIXELS, MOST = 64, 64  # pixels of a tile, and its largest number of output channels
DEPTH = 32  # input channels that are multiplied at a time
FACTORS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def convolve_tile(source, kernels, biases, out, sizes, strides, WINDOW: tl.constexpr, TILE: tl.constexpr):
    """A tile of pixels and output channels of one sample.

    sizes: channels, outputs, height and width of the source, height and width of the output.
    strides: of source (B, C, H, W), kernels (B, O, C, kh, kw) and out (B, O, H', W').
    WINDOW: kh, kw; offset of the first tap from the pixel, down and right; step between taps, down and right.
    TILE: pixels, outputs, channels; precision of float32 products; dtype of the factors.
    """
    PIXELS: tl.constexpr = TILE[0]
    OUTPUTS: tl.constexpr = TILE[1]
    CHANNELS: tl.constexpr = TILE[2]
    channels, outputs, height, width, out_height, out_width = sizes
    of_source, of_kernels, of_out = strides
    sample = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    row, column = pixel // out_width, pixel % out_width
    is_pixel, is_output = pixel < out_height * out_width, output < outputs
    source += sample * of_source[0]
    kernels += sample * of_kernels[0]
    total = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    blocks = tl.cdiv(channels, CHANNELS)
    for step in range(WINDOW[0] * WINDOW[1] * blocks):
        tap, channel = step // blocks, step % blocks * CHANNELS + tl.arange(0, CHANNELS)
        down, right = tap // WINDOW[1], tap % WINDOW[1]
        y, x = row + WINDOW[2] + down * WINDOW[4], column + WINDOW[3] + right * WINDOW[5]
        inside = is_pixel & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        where = channel[None, :] * of_source[1] + (y * of_source[2] + x * of_source[3])[:, None]
        pixels = tl.load(source + where, inside[:, None] & (channel < channels)[None, :], 0.0)
        where = channel[:, None] * of_kernels[2] + output[None, :] * of_kernels[1]
        where += down * of_kernels[3] + right * of_kernels[4]
        weights = tl.load(kernels + where, (channel < channels)[:, None] & is_output[None, :], 0.0)
        total = tl.dot(pixels.to(TILE[4]), weights.to(TILE[4]), total, input_precision=TILE[3])
    if biases is not None:
        total += tl.load(biases + sample * outputs + output, is_output, 0.0)[None, :].to(tl.float32)
    where = output[None, :] * of_out[1] + (row * of_out[2] + column * of_out[3])[:, None]
    tl.store(out + sample * of_out[0] + where, total.to(out.dtype.element_ty), is_pixel[:, None] & is_output[None, :])


@triton.jit
def correlate_tile(source, gradient, out, sizes, strides, WINDOW: tl.constexpr, TILE: tl.constexpr):
    """A tile of the gradient with respect to one tap of one sample's kernel.

    Arguments as in ``convolve_tile``, with the gradient of the output in place of the kernels; out (B, O, C, kh, kw).
    """
    PIXELS: tl.constexpr = TILE[0]
    OUTPUTS: tl.constexpr = TILE[1]
    CHANNELS: tl.constexpr = TILE[2]
    channels, outputs, height, width, out_height, out_width = sizes
    of_source, of_gradient, of_out = strides
    sample, tap = tl.program_id(2).to(tl.int64), tl.program_id(0)
    blocks = tl.cdiv(channels, CHANNELS)
    output = tl.program_id(1) // blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    channel = tl.program_id(1) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    is_output, is_channel = output < outputs, channel < channels
    down, right = tap // WINDOW[1], tap % WINDOW[1]
    source += sample * of_source[0]
    gradient += sample * of_gradient[0]
    total = tl.zeros((OUTPUTS, CHANNELS), tl.float32)
    for start in range(0, out_height * out_width, PIXELS):
        pixel = start + tl.arange(0, PIXELS)
        row, column = pixel // out_width, pixel % out_width
        y, x = row + WINDOW[2] + down * WINDOW[4], column + WINDOW[3] + right * WINDOW[5]
        is_pixel = pixel < out_height * out_width
        inside = is_pixel & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        where = output[:, None] * of_gradient[1] + (row * of_gradient[2] + column * of_gradient[3])[None, :]
        slopes = tl.load(gradient + where, is_output[:, None] & is_pixel[None, :], 0.0)
        where = channel[None, :] * of_source[1] + (y * of_source[2] + x * of_source[3])[:, None]
        pixels = tl.load(source + where, inside[:, None] & is_channel[None, :], 0.0)
        total = tl.dot(slopes.to(TILE[4]), pixels.to(TILE[4]), total, input_precision=TILE[3])
    where = output[:, None] * of_out[1] + channel[None, :] * of_out[2] + down * of_out[3] + right * of_out[4]
    tl.store(out + sample * of_out[0] + where, total.to(out.dtype.element_ty), is_output[:, None] & is_channel[None, :])


def tile(channels: int, outputs: int, depth: int, dtype: torch.dtype) -> tuple:
    """``TILE`` of a kernel; tensor cores need at least 16 outputs and channels."""
    precision = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"  # as in torch's convolutions
    widths = [max(16, min(most, triton.next_power_of_2(n))) for n, most in ((outputs, MOST), (channels, depth))]
    widened = dtype == torch.bfloat16 and triton.knobs.runtime.interpret  # the interpreter has no bfloat16 products
    return PIXELS, *widths, precision, tl.float32 if widened else FACTORS[dtype]


def convolve(source: Tensor, kernels: Tensor, biases: Tensor | None, out: Tensor, window: tuple[int, ...]) -> Tensor:
    """Fill ``out`` (B, O, H', W') with ``source`` (B, C, H, W) convolved with ``kernels`` (B, O, C, kh, kw)."""
    samples, outputs, channels = kernels.shape[:3]
    sizes = channels, outputs, *source.shape[2:], *out.shape[2:]
    shape = tile(channels, outputs, DEPTH, source.dtype)
    grid = triton.cdiv(out.shape[2] * out.shape[3], shape[0]), triton.cdiv(outputs, shape[1]), samples
    strides = source.stride(), kernels.stride(), out.stride()
    with torch.cuda.device_of(source):
        convolve_tile[grid](source, kernels, biases, out, sizes, strides, window, shape)
    return out


def correlate(source: Tensor, gradient: Tensor, out: Tensor, window: tuple[int, ...]) -> Tensor:
    """Fill ``out`` (B, O, C, kh, kw) with the gradient of the kernels, from that of the output (B, O, H', W')."""
    samples, outputs, channels = out.shape[:3]
    sizes = channels, outputs, *source.shape[2:], *gradient.shape[2:]
    shape = tile(channels, outputs, MOST, source.dtype)
    grid = window[0] * window[1], triton.cdiv(outputs, shape[1]) * triton.cdiv(channels, shape[2]), samples
    strides = source.stride(), gradient.stride(), out.stride()
    with torch.cuda.device_of(source):
        correlate_tile[grid](source, gradient, out, sizes, strides, window, shape)
    return out


class Fused(torch.autograd.Function):
    """Convolution of each sample with its own kernel; stride 1, one group, zero padding.

    Args of ``apply``: x (B, C, H, W), kernels (B, O, C, kh, kw), biases (B, O) or None, all float32, bfloat16 or
    float16; padding and dilation of both axes. Sums are in float32. Returns (B, O, H', W'), channels-last.
    """

    @staticmethod
    def forward(ctx, x: Tensor, kernels: Tensor, biases: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.window = *kernels.shape[3:], -padding[0], -padding[1], *dilation
        shape = *kernels.shape[:2], *output_size(x, kernels.shape[3:], (1, 1), padding, dilation)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        return convolve(x, kernels, None if biases is None else biases.contiguous(), out, ctx.window)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernels = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_x = to_kernels = to_biases = None
        if ctx.needs_input_grad[0]:  # taps reversed, input and output channels exchanged
            around = *ctx.window[:2], *(-number for number in ctx.window[2:])
            to_x = convolve(gradient, kernels.transpose(1, 2), None, torch.empty_like(x), around)
        if ctx.needs_input_grad[1]:
            to_kernels = correlate(x, gradient, torch.empty_like(kernels), ctx.window)
        if ctx.needs_input_grad[2]:
            to_biases = gradient.sum(dim=(2, 3))
        return to_x, to_kernels, to_biases, None, None
