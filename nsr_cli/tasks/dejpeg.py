"""Removal of JPEG artifacts: the Y channel, compressed as a grey JPEG (Table 6)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nsr_cli.engine.conventions import Convention
from nsr_cli.tasks import Task

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class JpegArtifacts(Task):
    """Compression at a ``quality`` of 1 to 100."""

    quality: int = 10
    name: ClassVar[str] = "dejpeg"

    @property
    def level(self) -> int:
        return self.quality

    @property
    def fixed(self) -> str:
        return f"q{self.quality}"

    def conventions(self, benchmark: str, reads: Sequence[str], data: Path) -> list[Convention]:
        metrics = ("psnr", "ssim8", "ssim")  # the columns of Table 6 mix the two kinds of SSIM
        return [Convention("luma", "luma", rounded=True, measured="as given", border=0, metrics=metrics)]

    def every_convention(self, reads: Sequence[str]) -> list[Convention]:
        return [
            Convention("", "luma", True, "as given", border, output_rounded=output)
            for border, output in itertools.product((0, 8), (True, False))
        ]

    def prepare(self, path: Path, image: "np.ndarray", convention: Convention) -> "tuple[np.ndarray, np.ndarray]":
        from nsr_cli.data import degrade  # numpy and OpenCV: not for tables

        truth = degrade.GIVEN[convention.given](image)
        return degrade.jpeg(truth, self.quality), truth

    def degraded(self, path: Path, truth: "np.ndarray") -> "np.ndarray":
        from nsr_cli.data import degrade  # numpy and OpenCV: not for tables

        return degrade.jpeg(truth, self.quality)
