"""The text of ``dry_run=true``: a run's Spec, folder and cost, with an estimate of time from a few real steps."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import torch
import yaml
from torch import nn

from nsr_cli import words
from nsr_cli.data.images import image_size, read_image
from nsr_cli.data.sampler import check_size
from nsr_cli.engine import heap
from nsr_cli.engine.conventions import Convention
from nsr_cli.engine.evaluator import restore
from nsr_cli.layers.half import DTYPES, autocast, is_in_software
from nsr_cli.layers.layout import best_layout, set_layout
from nsr_cli.runs.build import check_network, fresh_method, initialise
from nsr_cli.runs.run import Run
from nsr_cli.runs.score import cost_of, tiling_for
from nsr_cli.runs.stored import Store
from nsr_cli.runs.train import steps_of
from nsr_cli.stopwatch import time_in_turns


def plan_lines(run: Run, method: Callable, device: torch.device, store: Store) -> Iterator[str]:
    """Yield the lines of a dry run.

    Raises:
        UserError: images are missing or cannot be used; what is known without them was yielded before.
    """
    yield yaml.safe_dump(run.spec.signed, sort_keys=False, default_flow_style=None)
    yield f"run folder      {run.folder.resolve()}"
    if isinstance(method, nn.Module):
        check_network(run.spec, method)
        cost, tile = cost_of(run, method), tiling_for(run, method).side
        yield f"parameters      {cost.parameters:,}"
        yield f"MACs per pixel  {cost.macs / 1e6:.4g} M of the input, convolutions alone (the paper's FLOPs)"
        if cost.overhead:
            yield f"gates, mixing   {cost.overhead / 1e6:.4g} M more, on tiles of {tile}x{tile}"
    store.images(run)
    if run.trains:
        yield from training_lines(run, method, device, store.training_images(run))
    yield "dry_run=true: nothing was made"


def training_lines(run: Run, network: nn.Module, device: torch.device, paths: list[Path]) -> Iterator[str]:
    """Yield the lines on the length, time and memory of a run's training on images."""
    task, spec = run.task, run.spec.training
    run.task_on(run.request.train, paths)  # raises UserError for an image without a partner
    steps, sizes = steps_of(run, len(paths)), [image_size(path) for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        check_size(path.name, size[0] // task.scale, size[1] // task.scale, spec.patch)
    channels = task.channels_given(run.reads)
    images = sum(height * width for height, width in sizes) * channels * (1 + 1 / task.scale**2)
    if run.request.init:
        yield f"init            {initialise(run, network)}"
    seconds, memory = measure_step(run, network, device)
    done = "" if run.lacks_weights else ", finished: would be skipped"
    yield f"training        {steps:,} steps of {spec.batch} patches{done}"
    if is_in_software(device, DTYPES[spec.precision]):
        yield f"precision       {spec.precision}, in the time of fp32: this CPU has no instructions for it"
    yield f"time            about {words.clock(steps * seconds)} on this {device.type}, at {1 / seconds:.1f} steps/s"
    yield f"memory          about {memory / 2**20:,.0f} MiB for weights, optimizer and activations"
    yield f"                and {images / 2**20:,.0f} MiB for {len(paths)} training images"


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
    layout = best_layout(network, spec.patch)  # as in training
    set_layout(network, layout)
    batch = batch.contiguous(memory_format=layout)
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


CROPS = (32, 48)  # sides in degraded pixels


def classical_seconds(
    run: Run, method: Callable, path: Path, convention: Convention, clock: Callable = time.process_time
) -> float:
    """Seconds that a method without a network takes per degraded pixel, from two degraded crops of an image's centre.

    Their difference counts, because set-up takes much of the time of a crop, and little of that of an image.
    """
    image, scale, calls, pixels = read_image(path), run.task.scale, {}, {}
    for side in CROPS:
        top, left = (max(0, (length - side * scale) // 2) for length in image.shape[:2])
        crop = image[top : top + side * scale, left : left + side * scale]
        degraded, _ = run.task.prepare(Path(path.name), crop, convention)  # no folder: it has no official partner
        calls[side] = partial(restore, method, degraded, scale, None)
        pixels[side] = degraded.shape[0] * degraded.shape[1]
    small, large = CROPS
    calls[small]()  # a method's first call imports and allocates
    seconds = {side: times[0] for side, times in time_in_turns(calls, 1, warm_ups=0, clock=clock).items()}
    if pixels[large] == pixels[small]:
        return seconds[large] / pixels[large]
    return max(0.0, seconds[large] - seconds[small]) / (pixels[large] - pixels[small])


@one_thread()
def estimate_seconds(trainings: list[Run], scores: list[tuple[Run, str]]) -> float:
    """About how many seconds runs take on one core.

    The step of a small network is measured; that of a large one is computed from its multiply-accumulates. Methods
    without a network are timed on crops.

    Args:
        trainings: runs to be trained.
        scores: (run, benchmark) of each score to be made.
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
    per_pixel: dict[str, float] = {}  # seconds of a degraded pixel, by run
    for run, benchmark in scores:
        paths, conventions = store.images(run)[benchmark], run.conventions(benchmark)
        if run.name not in per_pixel:
            method = fresh_method(run.spec)
            if isinstance(method, nn.Module):
                per_pixel[run.name] = cost_of(run, method).macs / multiply_accumulates_per_second()
            else:
                per_pixel[run.name] = classical_seconds(run, method, paths[0], conventions[0])
        pixels = sum(height * width for height, width in map(image_size, paths)) / run.task.scale**2
        seconds += pixels * per_pixel[run.name] * len({c.restoration for c in conventions})
    return seconds
