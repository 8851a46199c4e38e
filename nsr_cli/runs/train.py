"""Train the network of a run: from its Spec to the arguments of the training loop."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nsr_cli.data.examples import load_examples
from nsr_cli.data.identity import digest_of
from nsr_cli.data.resident import sampler_on_device
from nsr_cli.data.sampler import PatchSampler
from nsr_cli.engine.loggers import LOGGERS
from nsr_cli.engine.observers import GateStatistics, Observers, Validation
from nsr_cli.engine.ranks import Ranks
from nsr_cli.engine.saver import Saver
from nsr_cli.engine.schedule import Schedule, drop_steps
from nsr_cli.engine.trainer import train
from nsr_cli.engine.validation import validation_of
from nsr_cli.errors import UserError
from nsr_cli.runs.build import initialise
from nsr_cli.runs.run import Run
from nsr_cli.words import print_line


def prepare_training(
    run: Run, network: nn.Module, sources: list[Path], benchmarks: dict[str, list[Path]]
) -> Callable[[Ranks], None]:
    """Read and check all that a training needs.

    Args:
        sources: the training images.
        benchmarks: images by benchmark; the first is used for validation.

    Returns:
        A function that trains the network and writes its weights.
    """
    spec, request = run.spec.training, run.request
    task = run.task_on(request.train, sources)
    if not (task.fixed or task.sigma):
        raise UserError(f"task={task.name}: has neither fixed nor sigma, so that its training images are not degraded")
    if request.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if request.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UserError("compile=true: needs a C++ compiler; there is no g++ or clang++ on this machine")
    cache = Path(request.results) / "cache"
    examples = load_examples(sources, task, task.form(run.reads), spec.patch, cache, spec.data, print_line)
    sizes = {"patch": spec.patch, "batch": spec.batch, "patches_per_image": spec.patches_per_image}
    sampler = PatchSampler(examples, task.scale, **sizes, seed=spec.seed, sigma=task.sigma)
    steps, device = steps_of(run, len(examples)), next(network.parameters()).device
    init_line = initialise(run, network) if request.init else ""  # a checkpoint of this training replaces the weights
    benchmark, paths = next(iter(benchmarks.items()))
    convention = run.conventions(benchmark)[0]
    validate = validation_of(paths, run.task_on(benchmark, paths), convention, spec.patch, task.luma_only(run.reads))

    def train_network(ranks: Ranks) -> None:
        if ranks.is_first:
            together = f" by {ranks.world} processes" if ranks.world > 1 else ""
            print_line(f"training {run.name}: {steps:,} steps{together} in {run.folder.resolve()}")
            if init_line:
                print_line(init_line)
        digest = digest_of(task.sources(sources))
        drops = drop_steps(spec.lr_drops, steps)
        train(
            network,
            sampler_on_device(sampler, device),
            Schedule(steps, spec.learning_rate, drops, spec.lr_factor),
            Saver(run.folder, run.spec.weights_spec.signature, digest, request.checkpoint_minutes),
            Observers(
                run.folder,
                [Validation(validate, request.validate_every), GateStatistics()],
                [LOGGERS[name](run.folder, run.spec.signed) for name in LOGGERS if getattr(request, name)],
                say=print_line if ranks.is_first else lambda text: None,
                bar=ranks.is_first and sys.stderr.isatty(),
            ),
            patch=spec.patch,
            seed=spec.seed,
            precision=spec.precision,
            compiled=request.compile,
            ranks=ranks,
        )

    return train_network


def steps_of(run: Run, images: int) -> int:
    """The steps of a run's training on a number of images. Raises UserError if all epochs hold less than a batch."""
    spec = run.spec.training
    if spec.steps:
        return spec.steps
    patches = spec.epochs * images * spec.patches_per_image
    if patches < spec.batch:
        raise UserError(f"batch={spec.batch}: {patches} patches in {spec.epochs} epochs make no step")
    return patches // spec.batch
