"""Sources of the network that restores a user's pictures: a file, a run, or a shipped network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nsr_cli.errors import UserError
from nsr_cli.folders import PACKAGE
from nsr_cli.runs.build import build, trained_network
from nsr_cli.runs.portable import find_spec, open_network
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import Spec
from nsr_cli.tasks import Task, task_of

SHIPPED = PACKAGE / "shipped"


@dataclass(frozen=True)
class Source:
    """A source of a network.

    Attributes:
        name: of the source, in messages.
        spec: the Spec of the network.
        open: makes the network with its weights on a device; or the classical method.
    """

    name: str
    spec: Spec
    open: Callable[[torch.device], Callable]

    @property
    def task(self) -> Task:
        return task_of(self.spec.task)


def shipped_source(task: Task) -> Source:
    """The network that is shipped for a task. Raises UserError if there is none; the text lists the shipped ones."""
    path = SHIPPED / f"wdsr-{task.label}.safetensors"
    if not path.exists():
        labels = ", ".join(sorted(other.stem.partition("-")[2] for other in SHIPPED.glob("*.safetensors")))
        raise UserError(
            f"task={task.name}: no network for {task.label} is shipped, only for {labels or 'none'}; train one with "
            "`nsr train` and repeat its overrides here (model=wdsr sparsity=softmax ...), take published weights "
            "(model=dncnn, vdsr or arcnn with ckpt=published), or give ckpt=FILE"
        )
    return file_source(path)


def file_source(path: Path) -> Source | None:
    """The network of a file that holds its Spec; None for any other path."""
    spec = find_spec(path) if path.is_file() else None
    return spec and Source(path.name, spec, lambda device: open_network(path, device)[0])


def run_source(run: Run) -> Source:
    """The method of a run that was trained before.

    Raises:
        UserError: the run has no weights.
    """
    if run.lacks_weights:
        raise UserError(f"no weights of this run in {run.folder.resolve()}; `nsr train` with these overrides trains it")
    open_method = trained_network if run.trains or run.request.ckpt else build
    return Source(run.spec.name, run.spec, lambda device: open_method(run, device))
