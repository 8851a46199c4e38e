"""A training of a fraction of a second, and processes to train in that start in less than one."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nsr_cli.data.sampler import Batch
from nsr_cli.engine.observers import GateStatistics, Observers, Validation
from nsr_cli.engine.ranks import Ranks
from nsr_cli.engine.saver import Saver
from nsr_cli.engine.schedule import Schedule
from nsr_cli.engine.trainer import train
from nsr_cli.layers.sparse_conv import SparseConv2d

FORKS = multiprocessing.get_context("forkserver")  # torch is imported once, not for every process
FORKS.set_forkserver_preload(["nsr_cli.engine.trainer", "nsr_cli.layers.sparse_conv", "torch._dynamo"])


def network(gate: str = "gumbel") -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(SparseConv2d(1, 4, 3, padding=1, gate=gate), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def batch_at(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.rand(2, 1, 8, 8, generator=generator)
    return Batch(x, 1 - x, [f"{step}a.png", f"{step}b.png"])


class Killed(BaseException):
    pass


def killed_at(step: int) -> Callable[[int], Batch]:
    """Batches up to a step, then a stop from outside: the trainer must cope with any."""

    def batches(asked: int) -> Batch:
        if asked >= step:
            raise Killed
        return batch_at(asked)

    return batches


def run(
    folder: Path,
    batches: Callable[[int], Batch] = batch_at,
    say: Callable[[str], None] = lambda text: None,
    *,
    model: nn.Module | None = None,
    steps: int = 12,
    drops: tuple[int, ...] = (6, 9),
    factor: float = 0.1,
    precision: str = "fp32",
    signature: str = "abc",
    data: str = "",
    minutes: float = 0,
    every: int = 5,
    validate: Callable[[nn.Module], dict] | None = None,
    validate_every: int = 500,
    loggers: tuple = (),
    bar: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
) -> tuple[dict, nn.Module]:
    """The final state and the trained network. Saves a checkpoint after every step, unless ``minutes`` says else."""
    model = model or network()
    folder.mkdir(exist_ok=True)
    measured = [Validation(validate, validate_every)] if validate else []
    observers = Observers(folder, [*measured, GateStatistics()], loggers, every, say, bar)
    schedule, saver = Schedule(steps, 1e-2, drops, factor), Saver(folder, signature, data, minutes)
    state = train(model, batches, schedule, saver, observers, patch=8, seed=3, precision=precision, ranks=ranks)
    return state, model


def lines_of(folder: Path) -> list[dict]:
    """Those of stats.jsonl."""
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
