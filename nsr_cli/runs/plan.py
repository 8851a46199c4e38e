"""The text of ``dry_run=true``: a run's Spec, folder and cost, with an estimate of time from a few real steps."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import yaml
from torch import nn

from nsr_cli import words
from nsr_cli.data.images import image_size
from nsr_cli.data.sampler import check_size
from nsr_cli.engine import heap
from nsr_cli.engine.trainer import autocast
from nsr_cli.runs.build import check_network, fresh_method, initialise
from nsr_cli.runs.run import Run
from nsr_cli.runs.score import cost_of, tiling_for
from nsr_cli.runs.stored import Store
from nsr_cli.runs.train import steps_of
from nsr_cli.stopwatch import time_in_turns


def plan_text(run: Run, method: Callable, device: torch.device) -> str:
    """The text of a dry run."""
    lines = [
        yaml.safe_dump(run.spec.signed, sort_keys=False, default_flow_style=None).rstrip(),
        "",
        f"run folder      {run.folder.resolve()}",
    ]
    if isinstance(method, nn.Module):
        check_network(run.spec, method)
        cost, tile = cost_of(run, method), tiling_for(run, method).side
        lines += [
            f"parameters      {cost.parameters:,}",
            f"MACs per pixel  {cost.macs / 1e6:.4g} M of the input, convolutions alone (the paper's FLOPs)",
            f"gates, mixing   {cost.overhead / 1e6:.4g} M more, on tiles of {tile}x{tile}",
        ]
    if run.trains:
        lines += training_lines(run, method, device)
    return "\n".join([*lines, "dry_run=true: nothing was trained"])


def training_lines(run: Run, network: nn.Module, device: torch.device) -> list[str]:
    """The lines on the length, time and memory of a run's training."""
    paths, task, spec = Store().training_images(run), run.task, run.spec.training
    run.task_on(run.request.train, paths)  # raises UserError for an image without a partner
    steps, sizes = steps_of(run, len(paths)), [image_size(path) for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        check_size(path.name, size[0] // task.scale, size[1] // task.scale, spec.patch)
    channels = task.channels_given(run.reads)
    images = sum(height * width for height, width in sizes) * channels * (1 + 1 / task.scale**2)
    seconds, memory = measure_step(run, network, device)
    done = "" if run.lacks_weights else ", finished: would be skipped"
    return [
        *([f"init            {initialise(run, network)}"] if run.request.init else []),
        f"training        {steps:,} steps of {spec.batch} patches{done}",
        f"time            about {words.clock(steps * seconds)} on this {device.type}, at {1 / seconds:.1f} steps/s",
        f"memory          about {memory / 2**20:,.0f} MiB for weights, optimizer and activations",
        f"                and {images / 2**20:,.0f} MiB for {len(paths)} training images",
    ]


def measure_step(
    run: Run, network: nn.Module, device: torch.device, steps: int = 4, clock: Callable = time.monotonic
) -> tuple[float, float]:
    """(seconds of a training step, bytes that training needs), from a few real steps on zeros."""
    saved = {}  # bytes that are saved for the backward pass, by storage

    def count_bytes(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    spec = run.spec.training
    batch = torch.zeros(spec.batch, run.task.channels_given(run.reads), spec.patch, spec.patch, device=device)
    durations = []
    with heap.keep_freed_memory():  # as in training
        for _ in range(steps):
            began = clock()
            with torch.autograd.graph.saved_tensors_hooks(count_bytes, lambda tensor: tensor):
                with autocast(device, spec.precision):
                    loss = network(batch).float().abs().mean()
                saved_bytes = sum(saved.values())
            loss.backward()
            loss.item()
            durations.append(clock() - began)
            saved.clear()
    weights = sum(p.nbytes for p in network.parameters())
    return min(durations), saved_bytes + 3 * weights  # saved: the weights too; not saved: gradients, Adam's two moments


BRIEF_STEP = 0.5  # seconds; a step that is guessed to be longer is not measured


@lru_cache(maxsize=1)
def multiply_accumulates_per_second() -> float:
    """The speed of one core, in the convolution that most networks here consist of."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.zeros(1, 64, 64, 64).to(memory_format=torch.channels_last)
    with torch.no_grad(), heap.keep_freed_memory():
        seconds = time_in_turns({"convolution": lambda: conv(x)}, 5, clock=time.process_time)["convolution"]
    return conv.weight.numel() * 64**2 / max(min(seconds), 1e-6)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, because waiting threads would count as processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def estimate_seconds(trainings: list[Run], scored: list[Run]) -> float:
    """About how many seconds runs take on one core.

    The step of a small network is measured; that of a large one is computed from its multiply-accumulates.

    Args:
        trainings: runs to be trained.
        scored: runs to be scored on their benchmarks.
    """
    store, device, seconds = Store(), torch.device("cpu"), 0.0
    steps: dict[str, float] = {}  # seconds of a step, by network
    for run in trainings:
        spec = run.spec.training
        key = str((run.spec.model, run.spec.sparsity, spec.batch, spec.patch))
        if key not in steps:
            network = fresh_method(run.spec)
            guess = 3 * spec.batch * spec.patch**2 * cost_of(run, network).macs / multiply_accumulates_per_second()
            steps[key] = guess if guess > BRIEF_STEP else measure_step(run, network, device, 2, time.process_time)[0]
        seconds += steps[key] * steps_of(run, len(store.training_images(run)))
    for run in scored:
        method = fresh_method(run.spec)
        macs = cost_of(run, method).macs if isinstance(method, nn.Module) else 0
        for paths in store.images(run).values():
            pixels = sum(height * width for height, width in map(image_size, paths)) / run.task.scale**2
            seconds += pixels * macs / multiply_accumulates_per_second()
    return seconds
