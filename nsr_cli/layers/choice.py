"""Choosing the way to compute a convolution with a kernel for each sample: by a rule, or on a GPU by measurement."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from nsr_cli.files import write_json
from nsr_cli.layers.per_sample import (
    AS_GROUPS,
    AS_PRODUCTS,
    CHANNELS_LAST,
    EVERYWHERE,
    FUSED,
    ONE_BY_ONE,
    WAYS,
    Pair,
    computed_dtype,
    is_fusible,
    output_size,
)
from nsr_cli.layers.transforms import has_any_size, is_transformed
from nsr_cli.stopwatch import time_in_turns

LARGE = 2**17  # inputs and outputs of a sample's convolution from which a call for each is faster on a CPU with AVX512
LARGE_UNEVEN = 36_000  # the same for channels that are no multiples of 8, for which groups are slow
MEASURED = ("cuda",)  # kinds of devices on which the choice is measured
ROUNDS = 5

Candidates = Mapping[str, Callable[[], object]]
chosen: dict[tuple, str] = {}  # ways by class of shapes


def fastest(x: Tensor, kernel: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int = 1) -> str:
    """The way to compute a convolution, one of per_sample.WAYS.

    On a GPU the fastest way is measured once for each class of shapes, and kept in the user's cache folder. On other
    devices, and with deterministic algorithms, which must not depend on times, a rule decides.

    Args:
        x: input (B, C_in, H, W).
        kernel: (C_out, C_in / groups, kh, kw) of one sample.
        stride, padding, dilation, groups: as in torch.nn.functional.conv2d, of both axes.
    """
    if is_transformed():  # plain operators only; compilers support no convolution with an open number of groups
        return AS_PRODUCTS if has_any_size(x.shape[0]) else AS_GROUPS
    default = by_rule(x, kernel, stride, padding, dilation)
    if x.device.type not in MEASURED or torch.are_deterministic_algorithms_enabled():
        return default
    conv = stride, padding, dilation, groups
    key = class_of_shapes(x, kernel, conv)
    if key not in chosen:
        if x.is_cuda and torch.cuda.is_current_stream_capturing():  # no timing inside of a graph
            return default
        settle = partial(torch.cuda.synchronize, x.device) if x.is_cuda else lambda: None
        device = torch.cuda.get_device_name(x.device) if x.is_cuda else x.device.type
        name = f"{device}, torch {torch.__version__}, {key}"
        times = read_times(name) or save_times(name, measure(calls_by_way(x, kernel, conv), settle=settle))
        chosen[key] = min(times["seconds"], key=times["seconds"].get, default=default)
    return chosen[key]


def by_rule(x: Tensor, kernel: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> str:
    """The way to compute a convolution where nothing is measured: one by one on a CPU if samples are large.

    On a CPU without AVX512 the gradients of channels-last convolutions are slow: a training step of the networks of
    Tables 1 and 4 takes 1.2 to 1.4 times as long one by one as in groups, and a forward pass the same.
    """
    out = kernel[0] * math.prod(output_size(x, kernel[2:], stride, padding, dilation))
    uneven = kernel[0] % 8 or kernel[1] % 8
    large = LARGE_UNEVEN if uneven else LARGE if has_avx512() else math.inf
    return ONE_BY_ONE if x.device.type == "cpu" and math.prod(x.shape[1:]) + out >= large else AS_GROUPS


@lru_cache
def has_avx512() -> bool:
    """Whether this CPU computes by AVX512, which torch uses."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def class_of_shapes(x: Tensor, kernel: tuple[int, ...], conv: tuple) -> tuple:
    """The class of a convolution: batch and pixels rounded up to a power of two, all else exact."""
    batch, pixels = (1 << (n - 1).bit_length() for n in (x.shape[0], x.shape[2] * x.shape[3]))
    layout = "channels-last" if x.is_contiguous(memory_format=torch.channels_last) else "contiguous"
    work = "forward and backward" if torch.is_grad_enabled() else "forward"
    precision = str(computed_dtype(x)), "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
    return (x.device.index, work, *precision, layout, batch, pixels, *kernel, *conv)


def calls_by_way(x: Tensor, kernel: tuple[int, ...], conv: tuple) -> dict[str, Callable[[], object]]:
    """Functions that run a convolution once in each way, with gradients if autograd is on; by way."""
    trains = torch.is_grad_enabled()

    def call(way: str) -> None:
        image = torch.ones_like(x, requires_grad=trains)
        kernels = torch.ones(len(x), *kernel, dtype=x.dtype, device=x.device)
        if way in CHANNELS_LAST:
            kernels = kernels.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        out = WAYS[way](image, kernels.requires_grad_(trains), None, *conv)
        if trains:
            torch.autograd.grad(out, (image, kernels), out.detach())

    ways = [*EVERYWHERE, FUSED] if is_fusible(x, conv[0], conv[-1]) else EVERYWHERE
    return {way: partial(call, way) for way in ways}


def measure(candidates: Candidates, **watch: Callable) -> dict:
    """Time the candidates in turns.

    Args:
        candidates: functions by name.
        **watch: settle and clock, as in :func:`nsr_cli.stopwatch.time_in_turns`.

    Returns:
        ``seconds``, the median of each candidate that runs, and ``failed``, the error of each other one, by name.
    """
    failed = {}
    for name, run in candidates.items():
        try:
            run()
            watch.get("settle", lambda: None)()
        except Exception as error:  # of memory, compiler or driver: another way is taken
            failed[name] = f"{type(error).__name__}: {error}"[:500]
    runnable = {name: run for name, run in candidates.items() if name not in failed}
    seconds = time_in_turns(runnable, ROUNDS, **watch) if runnable else {}
    return {"seconds": {name: median(times) for name, times in seconds.items()}, "failed": failed}


def times_file(name: str) -> Path:
    """The file of measured times; one for each name, so that processes do not overwrite each other's."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "nsr" / "ways" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def read_times(name: str) -> dict | None:
    """The saved times of a name; None if there are none, or they are unreadable."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        content = json.loads(times_file(name).read_text(encoding="utf-8"))
        content["seconds"] = {way: float(time) for way, time in content["seconds"].items() if way in WAYS}
        return content if content["name"] == name else None
    return None


def save_times(name: str, times: dict) -> dict:
    """Save the times of a name; returns them."""
    with contextlib.suppress(OSError):  # if they cannot be saved, this process alone keeps them
        write_json(times_file(name), {"name": name, **times})
    return times
