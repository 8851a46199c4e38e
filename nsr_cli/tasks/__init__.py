"""Tasks: how an image is degraded, what a training sees of it, and how its benchmarks are scored; a file each.

A config names a task's class under ``task._target_``; all other entries of that config group are its arguments. A task
of one's own subclasses :class:`Task`, anywhere, and needs a YAML in conf/task (or in ``--config-dir``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nsr_cli.engine.conventions import Convention
from nsr_cli.errors import UserError
from nsr_cli.names import imported

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Task:
    """What all tasks share; images are (H, W[, C]) in 0..255.

    Attributes:
        channels: of the images that networks are given.
        name: as in signatures and file names.
        scale: side of a restored image over that of the degraded one.
        sigma: standard deviation of noise that is drawn anew for every training patch, in 0..255.
        fixed: what names the degradation of training images in a cache, as in ``q10``; empty where it is drawn anew.
    """

    channels: int = 1
    name: ClassVar[str]
    scale: ClassVar[int] = 1
    sigma: ClassVar[float] = 0
    fixed: ClassVar[str] = ""

    @property
    def level(self) -> float:
        """The knob that published weights are listed by."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What names of restored pictures end in, as in ``x2``."""
        return self.fixed or self.name

    def form(self, reads: Sequence[str]) -> str:
        """What of an image a training works on: rgb, luma or grey."""
        return "luma"

    def conventions(self, benchmark: str, reads: Sequence[str], data: Path) -> list[Convention]:
        """How a benchmark scores methods; the paper's table shows the first.

        Args:
            benchmark: a data set.
            reads: what the method can be given: rgb, luma, grey.
            data: the folder of data sets.
        """
        raise NotImplementedError

    def every_convention(self, reads: Sequence[str]) -> list[Convention]:
        """All ways in which papers have scored the task, to see which one a published number may come from."""
        return self.conventions("", reads, Path())

    def prepare(self, path: Path, image: "np.ndarray", convention: Convention) -> "tuple[np.ndarray, np.ndarray]":
        """(degraded, truth) of a benchmark image: truth uint8, degraded uint8 or float."""
        raise NotImplementedError

    def degraded(self, path: Path, truth: "np.ndarray") -> "np.ndarray":
        """The degraded image of a training image, uint8; asked only where ``fixed`` names it."""
        return truth

    def sources(self, paths: Sequence[Path]) -> list[Path]:
        """All files that training images are made from."""
        return list(paths)

    def paired(self, partners: Mapping[Path, Path]) -> "Task":
        """The task on images that have low-resolution images of their own; only super-resolution has a use for them."""
        return self

    def official(self, paths: Sequence[Path]) -> bool:
        """Whether degraded images come from their publisher, instead of from here."""
        return False

    def channels_given(self, reads: Sequence[str]) -> int:
        """Channels of the images that a method reads."""
        return 1 if reads[0] == "luma" else self.channels

    def luma_only(self, reads: Sequence[str]) -> bool:
        """Whether a method is given luma alone, and colour images have their chroma enlarged by bicubic."""
        return False


def task_of(signed: dict) -> Task:
    """The task of a Spec: its class, made from the other entries.

    Raises:
        UserError: no such class, or arguments that it does not take.
    """
    arguments = {key: value for key, value in signed.items() if key not in ("name", "target")}
    try:
        task = imported(signed["target"])(**arguments)
    except TypeError as error:
        raise UserError(f"task={signed['name']}: {signed['target']} does not take its arguments ({error})") from None
    if not isinstance(task, Task) or task.name != signed["name"]:
        raise UserError(f"task={signed['name']}: {signed['target']} is no task of that name; see nsr_cli/tasks")
    return task
