"""What `check.py` times in a process of its own: python tests/gpu/times.py PART FILE DEVICE

PART is one of PARTS; rows of the table go to FILE (JSON), each as soon as it is measured.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from nsr_cli.bench.workloads import capture_graph, networks
from nsr_cli.data.resident import sampler_on_device
from nsr_cli.data.sampler import Example, PatchSampler
from nsr_cli.engine import heap
from nsr_cli.files import write_json
from nsr_cli.layers import choice, per_sample
from nsr_cli.stopwatch import time_in_turns

STEP = "training step"
PAPER = {"blocks": 16, "units": 32, "width": 4, "batch": 16, "patch": 48, "groups": 4, "cardinality": 16}
TRIAL = {"blocks": 1, "units": 8, "width": 2, "batch": 2, "patch": 20, "groups": 2, "cardinality": 2}  # on a CPU
TASKS = {"x2": 2, "denoising, JPEG artifacts": 1}


def settled(device: torch.device) -> Callable[[], object]:
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None


def sizes(device: torch.device, scale: int = 2) -> dict:
    return {"scale": scale, **(PAPER if device.type == "cuda" else TRIAL)}


def rows_of(what: str, calls: dict, batch: int, device: torch.device) -> Iterator[dict]:
    """A row for each of ``calls``, by name, and its time over that of the first; or why it cannot be run."""
    measured = choice.measure(calls, settle=settled(device))
    plain = next(iter(measured["seconds"].values()), 0)
    for name, seconds in measured["seconds"].items():
        row = {"what": f"{what}, {name}", "ms": round(1000 * seconds, 3), "patches/s": round(batch / seconds)}
        yield {**row, "of the first": round(seconds / plain, 3)}
    yield from ({"what": f"{what}, {name}", "failed": why} for name, why in measured["failed"].items())


def steps(device: torch.device) -> Iterator[dict]:
    """Training steps of the paper's networks, each launched by Python, and as CUDA graphs."""
    for (task, scale), precision in ((task, p) for task in TASKS.items() for p in ("fp32", "bf16")):
        spec = sizes(device, scale)
        calls = networks(spec, precision, device)
        eager = {name: call for (name, mode), call in calls.items() if mode == STEP}
        yield from rows_of(f"{task}, {precision}, eager", eager, spec["batch"], device)
        if device.type == "cuda":
            graphs = {name: capture_graph(call) for name, call in eager.items()}
            yield from rows_of(f"{task}, {precision}, CUDA graph", graphs, spec["batch"], device)


def compiled(device: torch.device) -> Iterator[dict]:
    for precision in ("bf16", "fp32"):
        spec = sizes(device)
        calls = networks(spec, precision, device, compiled=True)
        wanted = {name: call for (name, mode), call in calls.items() if mode == STEP and "compiled" in name}
        for name, call in wanted.items():
            began = time.perf_counter()
            call()
            settled(device)()
            seconds = round(time.perf_counter() - began, 1)
            yield {"what": f"x2, {precision}, the first step, {name}", "ms": 1000 * seconds}
        yield from rows_of(f"x2, {precision}", wanted, spec["batch"], device)


TILES = [(64, 64, 32), (128, 64, 32), (64, 128, 32), (128, 128, 32), (64, 64, 64), (128, 128, 64)]


def tiles(device: torch.device) -> Iterator[dict]:
    """Forward and backward of the fused kernel in other tiles, beside other ways: to see which to set in fused.py."""
    from nsr_cli.layers import fused

    spec = sizes(device)
    batch, side, wide = spec["batch"], spec["patch"], spec["units"] * spec["width"]
    one, options = (1, 1), {"device": device, "dtype": torch.bfloat16}

    def both_ways(x: Tensor, kernels: Tensor, convolve: Callable) -> None:
        out = convolve(x, kernels, None, one, one, one)
        torch.autograd.grad(out, (x, kernels), out.detach())

    def in_tiles(shape: tuple, x: Tensor, kernels: Tensor, *rest) -> Tensor:
        fused.PIXELS, fused.MOST, fused.DEPTH = shape
        return fused.Fused.apply(x, kernels, None, one, one)

    ways = {"one kernel for all": lambda x, kernels, *rest: torch.conv2d(x, kernels[0], *rest)} | per_sample.EVERYWHERE
    ways |= {f"fused, {'x'.join(map(str, shape))}": partial(in_tiles, shape) for shape in TILES}
    for channels, outputs in ((spec["units"], wide), (wide, spec["units"])):
        x = torch.ones(batch, channels, side, side, **options).to(memory_format=torch.channels_last).requires_grad_()
        kernels = torch.ones(batch, outputs, 3, 3, channels, **options).permute(0, 1, 4, 2, 3).requires_grad_()
        calls = {name: partial(both_ways, x, kernels, way) for name, way in ways.items()}
        yield from rows_of(f"{channels} to {outputs}, bf16", calls, batch, device)


def patches(device: torch.device) -> Iterator[dict]:
    """Patches cut in a second: from arrays by the CPU, and from where a training on the device cuts them."""
    rng = np.random.default_rng(0)
    examples = [
        Example(str(i), *(rng.integers(0, 256, (s * 150, s * 200, 3), dtype=np.uint8) for s in (1, 2)))
        for i in range(40)
    ]
    sampler = PatchSampler(examples, 2, patch=48, batch=16, patches_per_image=100, seed=0)
    for name, draw in {"by the CPU": sampler, "on the device": sampler_on_device(sampler, device)}.items():
        seconds = time_in_turns({name: lambda draw=draw: [draw(step) for step in range(50)]}, 5, settle=settled(device))
        yield {"what": f"patches of 48x48 cut {name}", "patches/s": round(800 / median(seconds[name]))}


def several(device: torch.device) -> Iterator[dict]:
    """Trainings side by side on one device, a process each: x2, softmax, bf16, eager."""
    for number in (1, 2, 4):
        command = [sys.executable, __file__, "one", "-", str(device)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        runs = [subprocess.Popen(command, **pipes) for _ in range(number)]
        try:
            for run in runs:
                if run.stdout.readline().strip() != "ready":
                    raise SystemExit(f"a training of {number} side by side ended before it began")
            for run in runs:
                print("go", file=run.stdin, flush=True)
            rates = [float(run.stdout.readline()) for run in runs]
        finally:
            for run in runs:
                run.kill()
                run.wait()
        yield {"what": f"side by side: {number}", "patches/s": round(sum(rates))}


def one(device: torch.device, seconds: float = 5.0) -> None:
    """One training of those: says that it is ready, waits for a line, then says how many patches a second it saw."""
    spec = sizes(device)
    step = networks(spec, "bf16", device)["softmax", STEP]
    for _ in range(3):
        step()
    settled(device)()
    print("ready", flush=True)
    sys.stdin.readline()
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        step()
        settled(device)()
        count += 1
    print(count * spec["batch"] / (time.perf_counter() - began), flush=True)


PARTS = {"steps": steps, "tiles": tiles, "compiled": compiled, "patches": patches, "several": several}


def main(part: str, file: str, device: str) -> None:
    torch.backends.cudnn.allow_tf32 = False  # as of every command of nsr
    if part == "one":
        one(torch.device(device))
        return
    rows = []
    with heap.keep_freed_memory():
        for row in PARTS[part](torch.device(device)):
            rows.append(row)
            print(row, flush=True)
            write_json(Path(file), {"rows": rows, "ways": {str(key): way for key, way in choice.chosen.items()}})


if __name__ == "__main__":
    main(*sys.argv[1:])
