"""Services that show the numbers of a training: one interface, and what it is called in each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from nsr_cli.errors import UserError


class Logger(Protocol):
    """Shows the numbers of a training."""

    def start(self, step: int) -> None:
        """Begin, or go on after ``step`` steps: what was logged of later ones is void."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers after a step, under names like gates/body.0.conv1/chosen/2."""

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Images after a step: (H, W) or (H, W, 3) in RGB, uint8."""

    def close(self) -> None:
        """End, whether the training has succeeded or not."""


class TensorBoard:
    """Events in the folder ``tensorboard`` of a run."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("tensorboard=true needs TensorBoard: pip install 'nsr[tensorboard]'") from None
        self.writer, self.folder = SummaryWriter, folder / "tensorboard"

    def start(self, step: int) -> None:
        self.board = self.writer(str(self.folder), purge_step=step + 1)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self.board.add_scalar(name, number, step)
        self.board.flush()

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        for name, image in images.items():
            self.board.add_image(name, image, step, dataformats="HWC" if image.ndim == 3 else "HW")

    def close(self) -> None:
        self.board.close()


def flattened(line: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line, but for its step, under names like gates/body.0.conv1/chosen/2."""
    for key, value in line.items():
        if isinstance(value, list):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}/")
        elif key not in ("step", "steps"):
            yield prefix + key, value
