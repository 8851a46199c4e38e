"""Tasks: the degradation of images, the form of training images, and the conventions of scoring; one file each.

A config names a task's class under ``task._target_``; all other entries of that config group are its arguments. A new
task is a subclass of :class:`Task` in any module, and a YAML in conf/task (or in ``--config-dir``).
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
    """The base class of tasks. Images are (H, W[, C]) in 0..255.

    Attributes:
        channels: of the input images of networks.
        name: in signatures and file names.
        scale: side of a restored image over the side of the degraded one.
        sigma: standard deviation of the noise that is drawn for every training patch, in 0..255.
        fixed: name in caches of a degradation that is fixed for each training image, as in ``q10``; empty if it is
            drawn for every patch.
    """

    channels: int = 1
    name: ClassVar[str]
    scale: ClassVar[int] = 1
    sigma: ClassVar[float] = 0
    fixed: ClassVar[str] = ""

    @property
    def level(self) -> float:
        """The value of the task's knob (sigma, quality, scale), by which published weights are listed."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The suffix of the names of restored pictures, as in ``x2``."""
        return self.fixed or self.name

    def form(self, reads: Sequence[str]) -> str:
        """The form of training images: rgb, luma or grey."""
        return "luma"

    def conventions(self, benchmark: str, reads: Sequence[str], data: Path) -> list[Convention]:
        """The conventions by which a benchmark scores methods; the paper's table shows the first.

        Args:
            benchmark: name of a data set, or a folder.
            reads: kinds of input images of the method: rgb, luma, grey.
            data: the folder of data sets.
        """
        raise NotImplementedError

    def every_convention(self, reads: Sequence[str]) -> list[Convention]:
        """All conventions by which papers have scored the task, to find the one behind a published number."""
        return self.conventions("", reads, Path())

    def prepare(self, path: Path, image: "np.ndarray", convention: Convention) -> "tuple[np.ndarray, np.ndarray]":
        """(degraded, truth) of a benchmark image: truth uint8, degraded uint8 or float."""
        raise NotImplementedError

    def degraded(self, path: Path, truth: "np.ndarray") -> "np.ndarray":
        """The degraded image of a training image, uint8; called only if ``fixed`` is not empty."""
        return truth

    def sources(self, paths: Sequence[Path]) -> list[Path]:
        """All files that training images are made from: the images, and low-resolution partners if there are any."""
        return list(paths)

    def paired(self, partners: Mapping[Path, Path]) -> "Task":
        """The task on images with given low-resolution partners; only super-resolution uses them."""
        return self

    def official(self, paths: Sequence[Path]) -> bool:
        """Whether the degraded images are published ones, instead of made here."""
        return False

    def channels_given(self, reads: Sequence[str]) -> int:
        """The number of channels of a method's input images."""
        return 1 if reads[0] == "luma" else self.channels

    def luma_only(self, reads: Sequence[str]) -> bool:
        """Whether a method restores luma alone, so that the chroma of colour images is enlarged bicubically."""
        return False


def task_of(signed: dict) -> Task:
    """The task of a Spec.

    Args:
        signed: ``name``, ``target``, the dotted name of the class, and the arguments of the class.

    Raises:
        UserError: there is no such class, or it does not take the arguments.
    """
    arguments = {key: value for key, value in signed.items() if key not in ("name", "target")}
    try:
        task = imported(signed["target"])(**arguments)
    except TypeError as error:
        raise UserError(f"task={signed['name']}: {signed['target']} does not take its arguments ({error})") from None
    if not isinstance(task, Task) or task.name != signed["name"]:
        raise UserError(f"task={signed['name']}: {signed['target']} is no task of that name; see nsr_cli/tasks")
    return task
