"""Autocast to 16 bits, also on CPUs that have no instructions for them."""

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
HAS_INSTRUCTIONS = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
PRODUCTS = {
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.linear, F.bilinear, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum,
    Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm, Tensor.addmm, Tensor.baddbmm,
}  # fmt: skip


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """The autocast of a forward pass in fp32, bf16 or fp16.

    Where a CPU would compute in software, products of 16-bit numbers are summed in fp32 and rounded to 16 bits, as
    other CPUs do it: equal to rounding, in the time of fp32.
    """
    dtype = DTYPES[precision]
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        with WideProducts(dtype) if is_in_software(device, dtype) else contextlib.nullcontext():
            yield


@lru_cache
def is_in_software(device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether torch has no fast convolution of a 16-bit dtype on a device: a CPU without instructions for it."""
    if device.type != "cpu" or dtype not in HAS_INSTRUCTIONS:
        return False
    return not (torch.backends.mkldnn.is_available() and getattr(torch.ops.mkldnn, HAS_INSTRUCTIONS[dtype])())


class WideProducts(TorchFunctionMode):
    """Convolutions and matrix products of numbers that are rounded to 16 bits, in fp32, rounded to 16 bits again."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.round = partial(tree_map_only, Tensor, lambda tensor: rounded(tensor, dtype))

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        if func not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):  # no function below is widened again
            out = func(*self.round(args), **self.round(kwargs))
        return out.to(self.dtype) if out.dtype == torch.float32 else out


def rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of 16 or 32 bits in fp32, with the numbers of a 16-bit dtype; others as they are, as under autocast."""
    return tensor.to(dtype).float() if tensor.dtype in (torch.float32, torch.bfloat16, torch.float16) else tensor
