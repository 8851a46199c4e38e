"""Denoising: grey images with additive Gaussian noise, neither clipped nor quantised (Table 5)."""

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
class Denoising(Task):
    """Noise of ``sigma`` in 0..255; fixed for each benchmark image, drawn anew for each training patch."""

    sigma: float = 25
    name: ClassVar[str] = "denoise"

    @property
    def level(self) -> float:
        return self.sigma

    @property
    def label(self) -> str:
        return f"sigma{self.sigma:g}"

    def form(self, reads: Sequence[str]) -> str:
        return "grey"

    def conventions(self, benchmark: str, reads: Sequence[str], data: Path) -> list[Convention]:
        return [Convention("grey", "grey", rounded=False, measured="as given", border=0)]

    def every_convention(self, reads: Sequence[str]) -> list[Convention]:
        both = (False, True)
        return [
            Convention("", "grey", rounded, "as given", 0, clipped=clipped, output_rounded=output)
            for rounded, clipped, output in itertools.product(both, both, both[::-1])
            if clipped or not rounded
        ]

    def prepare(self, path: Path, image: "np.ndarray", convention: Convention) -> "tuple[np.ndarray, np.ndarray]":
        from nsr_cli.data import degrade  # numpy and OpenCV: not for tables

        truth = degrade.GIVEN[convention.given](image)
        noisy = degrade.add_noise(truth, self.sigma, degrade.evaluation_noise(path, self.sigma))
        noisy = noisy.clip(0, 255) if convention.clipped else noisy
        return degrade.quantize(noisy) if convention.rounded else noisy, truth
