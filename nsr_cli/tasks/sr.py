"""Super-resolution: bicubic down-scaling, on RGB or on luma (Tables 1 to 4)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nsr_cli.data.catalog import convention_names, lr_partner, lr_partners
from nsr_cli.engine.conventions import Convention
from nsr_cli.tasks import Task

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class SuperResolution(Task):
    """x2, x3 or x4 from low-resolution images: given partners, else DIV2K's official ones, else MATLAB's bicubic."""

    channels: int = 3
    scale: int = 2
    partners: Mapping[Path, Path] = field(
        default_factory=dict, repr=False, compare=False
    )  # low-resolution images by image
    name: ClassVar[str] = "sr"

    @property
    def level(self) -> int:
        return self.scale

    @property
    def fixed(self) -> str:
        return f"x{self.scale}"

    def form(self, reads: Sequence[str]) -> str:
        return "luma" if reads[0] == "luma" else "rgb"

    def conventions(self, benchmark: str, reads: Sequence[str], data: Path) -> list[Convention]:
        known = {
            "luma": Convention("luma", "luma", rounded=False, measured="as given", border=self.scale),
            "rgb": Convention("rgb", "rgb", rounded=True, measured="rgb", border=self.scale + 6),
            "y": Convention("y", "rgb", rounded=True, measured="y", border=self.scale),
            "y8": Convention("y8", "rgb", rounded=True, measured="y8", border=self.scale),
        }
        return [known[name] for name in convention_names(benchmark, reads, data)]

    def every_convention(self, reads: Sequence[str]) -> list[Convention]:
        ways = [("rgb", measured) for measured in ("rgb", "y", "y8")] if "rgb" in reads else []
        ways += [("luma", "as given")] if "luma" in reads else []
        borders, both = (0, self.scale, self.scale + 6), (True, False)
        return [
            Convention("", given, rounded, measured, border, output_rounded=output)
            for (given, measured), rounded, output, border in itertools.product(ways, both, both, borders)
        ]

    def prepare(self, path: Path, image: "np.ndarray", convention: Convention) -> "tuple[np.ndarray, np.ndarray]":
        from nsr_cli.data import degrade  # numpy and OpenCV: not for tables

        truth = degrade.modcrop(degrade.GIVEN[convention.given](image), self.scale)
        partner = self.partners.get(path)
        if convention.rounded or partner:
            return degrade.low_resolution(path, truth, self.scale, partner), truth
        return degrade.downscale(truth.astype("float64"), self.scale), truth

    def degraded(self, path: Path, truth: "np.ndarray") -> "np.ndarray":
        from nsr_cli.data import degrade  # numpy and OpenCV: not for tables

        return degrade.low_resolution(path, truth, self.scale, self.partners.get(path))

    def sources(self, paths: Sequence[Path]) -> list[Path]:
        return [*paths, *([self.partners[path] for path in paths] if self.partners else lr_partners(paths, self.scale))]

    def official(self, paths: Sequence[Path]) -> bool:
        return paths[0] in self.partners or lr_partner(paths[0], self.scale) is not None

    def paired(self, partners: Mapping[Path, Path]) -> "SuperResolution":
        return replace(self, partners=partners)

    def luma_only(self, reads: Sequence[str]) -> bool:
        return list(reads) == ["luma"]
