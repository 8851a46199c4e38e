"""How a number is measured: a fact of the published tables, not an option."""

from dataclasses import asdict, dataclass

WINDOWS = {"ssim": "Gaussian", "ssim8": "8x8"}


@dataclass(frozen=True)
class Convention:
    """One way to score a method; a record spells every field out.

    Attributes:
        name: what tables call it.
        given: what the method reads: ``rgb``, ``luma`` (MATLAB's Y, rounded) or ``grey``.
        rounded: whether the degraded image is rounded to uint8.
        measured: ``rgb``; ``y``: MATLAB's Y in float; ``y8``: MATLAB's Y, rounded; ``as given``.
        border: pixels cut from each side before scoring.
        metrics: names in :data:`nsr_cli.ops.metrics.METRICS`, or dotted names of functions.
        clipped: whether the degraded image is clipped to 0..255; no published table clips its noisy images.
        output_rounded: whether the restored image is rounded and clipped to 0..255; all published tables do so.
    """

    name: str
    given: str
    rounded: bool
    measured: str
    border: int
    metrics: tuple[str, ...] = ("psnr", "ssim")
    clipped: bool = False
    output_rounded: bool = True

    @property
    def restoration(self) -> tuple:
        """What the restored image depends on; conventions with the same one share that image."""
        return self.given, self.rounded, self.clipped, self.output_rounded

    def spelled_out(self) -> dict:
        """All fields, as a record holds them."""
        return {**asdict(self), "metrics": list(self.metrics)}

    def in_words(self, scale: int | None) -> str:
        """One sentence, the same for all scales; ``scale`` is None where the task has none."""
        measured = {"rgb": "RGB", "y": "Y in float", "y8": "Y rounded", "as given": self.given}
        borders = {scale + 6: "border = scale + 6", scale: "border = scale"} if scale else {}
        border = ({0: "no border cut"} | borders).get(self.border, f"border of {self.border} pixels")
        degraded = "rounded to 8 bits" if self.rounded else "not rounded"
        restored = "rounded" if self.output_rounded else "not rounded"
        windows = " and ".join(WINDOWS[metric] for metric in self.metrics if metric in WINDOWS)
        return (
            f"reads {self.given.replace('rgb', 'RGB')}, degraded image {degraded}, restored image {restored}; "
            f"measured in {measured[self.measured]}, {border}" + f"; SSIM {windows}" * bool(windows)
        )


def convention_of(spelled_out: dict) -> Convention:
    """The convention that a record spells out.

    Raises:
        TypeError: the fields are those of another version.
    """
    return Convention(**{**spelled_out, "metrics": tuple(spelled_out["metrics"])})
