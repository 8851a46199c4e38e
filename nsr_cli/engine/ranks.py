"""Several processes on one training, as torchrun or Slurm's srun starts them: each takes a share of every batch."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from nsr_cli.engine.interrupts import SIGNALS
from nsr_cli.engine.processes import end_with_parent, slurm_rendezvous, world_size
from nsr_cli.errors import Failed

START_TIMEOUT = timedelta(minutes=10)  # from the first process that joins to the last
TIMEOUT = timedelta(days=7)  # a rank may wait as long as the first waits for another job that holds the run


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training; the default is a process alone.

    Attributes:
        rank: number of this process.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The slice of a batch that this process computes."""
        own = batch // self.world
        return slice(self.rank * own, (self.rank + 1) * own)

    def average(self, tensors: Iterable[Tensor], *numbers: Tensor) -> list[Tensor]:
        """Average tensors over the processes, in place, and return the averages of numbers: all in one message."""
        tensors = list(tensors)
        if self.world == 1:
            return list(numbers)
        flat = torch.cat([t.flatten() for t in tensors] + [n.reshape(1).to(torch.float32) for n in numbers])
        with name_lost_peer():
            dist.all_reduce(flat)
        flat /= self.world
        parts = flat.split([t.numel() for t in tensors] + [1] * len(numbers))
        for tensor, part in zip(tensors, parts, strict=False):
            tensor.copy_(part.view_as(tensor))
        return [part[0] for part in parts[len(tensors) :]]

    def check_step(self, step: int, device: torch.device, folder: Path) -> None:
        """Raise Failed unless all processes resume after the same step."""
        (mean,) = self.average([], torch.tensor(float(step), device=device))
        if mean != step:
            others = "others after another step"
            raise Failed(f"this process would resume after step {step}, {others}: all must see the same {folder}")

    def broadcast(self, answer: bool | None = None) -> bool:
        """The first process's answer, for all; the others give None, and wait for it."""
        if self.world == 1:
            return bool(answer)
        told = [answer]
        with name_lost_peer():
            dist.broadcast_object_list(told, src=0)
        return bool(told[0])

    @contextlib.contextmanager
    def calling_others(self) -> Iterator[Callable[[], None]]:
        """In the first process: yield a function that calls the others to a training, or release them at the end."""
        called = []
        try:
            yield lambda: called.append(self.broadcast(True))
        finally:
            if not called:
                self.broadcast(False)


class Exchange:
    """One message between all processes in each step: gradients, loss, and received signals.

    All act on a signal in the same step, the one after it came, so that no process waits for an answer.
    """

    def __init__(self, ranks: Ranks):
        self.ranks, self.signalled = ranks, torch.zeros(len(SIGNALS))

    def __call__(self, gradients: list[Tensor], loss: Tensor, signal: int | None) -> tuple[Tensor, int | None]:
        """Average the gradients in place.

        Args:
            gradients: of this process's share of the batch.
            loss: of this share.
            signal: that this process has received, or None.

        Returns:
            (average loss, signal to act on or None).
        """
        if self.ranks.world == 1:
            return loss, signal
        heard = [number for number, share in zip(SIGNALS, self.signalled.tolist(), strict=True) if share]
        self.signalled = torch.tensor([float(number == signal) for number in SIGNALS], device=loss.device)
        (loss,) = self.ranks.average([*gradients, self.signalled], loss)
        return loss, heard[-1] if heard else None


@contextlib.contextmanager
def join_processes(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that were started with this one, if any. Each has its own ``device``.

    All leave together. If one fails, torchrun or srun ends the others.
    """
    if world_size() == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()  # torchrun cannot end its processes if it is killed outright
    place = {"url": "env://"} if "WORLD_SIZE" in os.environ else slurm_rendezvous()
    with name_lost_peer():
        store, rank, world = next(dist.rendezvous(**place, timeout=START_TIMEOUT))
        store.set_timeout(TIMEOUT)  # from now on it fails at once where the process that holds it is gone
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    yield Ranks(rank, world)
    with name_lost_peer():
        dist.barrier()
    dist.destroy_process_group()


@contextlib.contextmanager
def name_lost_peer() -> Iterator[None]:
    """Raise Failed with one line, instead of gloo's or NCCL's many, where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "connection" not in str(error).lower():  # gloo raises it plain
            raise
        raise Failed("another process of this training has ended, so this one does; repeat the command") from error
