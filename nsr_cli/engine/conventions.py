"""How the numbers of each benchmark are measured. These are facts of the published tables, not options."""

import itertools
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Convention:
    """One way to score a method; a record spells every field out.

    Attributes:
        name: what tables call it.
        given: what the method reads: ``rgb``, ``luma`` (MATLAB's Y, rounded) or ``grey``.
        rounded: whether the degraded image is rounded to uint8.
        measured: ``rgb``; ``y``: MATLAB's Y in float of both; ``y8``: that, rounded; ``as given``.
        border: pixels cut from each side before scoring.
        ssim: windows: ``gaussian`` (11x11, sigma 1.5), ``uniform`` (8x8).
        clipped: whether the degraded image is clipped to 0..255; no published table's noise is.
        output_rounded: whether the restored image is rounded and clipped to 0..255; all published tables' are.
    """

    name: str
    given: str
    rounded: bool
    measured: str
    border: int
    ssim: tuple[str, ...] = ("gaussian",)
    clipped: bool = False
    output_rounded: bool = True

    def spelled_out(self) -> dict:
        return {**asdict(self), "ssim": list(self.ssim)}


LUMA_SETS = ("set5", "set14", "b100", "urban100")  # scored on luma since before networks


def conventions(task: dict, benchmark: str, reads: list[str]) -> list[Convention]:
    """The conventions of a benchmark for a method; the first is the one of the paper's table.

    Args:
        task: ``name``, and ``scale`` where it is ``sr``.
        benchmark: name in the catalog.
        reads: what the method can be given in super-resolution, ``luma`` or ``rgb`` or both.
    """
    if task["name"] == "denoise":
        return [Convention("grey", "grey", rounded=False, measured="as given", border=0)]
    if task["name"] == "dejpeg":
        windows = ("uniform", "gaussian")  # the columns of Table 6 mix the two
        return [Convention("luma", "luma", rounded=True, measured="as given", border=0, ssim=windows)]
    scale = task["scale"]
    luma = Convention("luma", "luma", rounded=False, measured="as given", border=scale)
    rgb = Convention("rgb", "rgb", rounded=True, measured="rgb", border=scale + 6)
    y = Convention("y", "rgb", rounded=True, measured="y", border=scale)
    y8 = Convention("y8", "rgb", rounded=True, measured="y8", border=scale)
    for_rgb = {
        "set5": [y],
        "set14": [y],
        "b100": [y, rgb],  # RGB stands in for DIV2K validation where that can't be had
        "urban100": [y],
        "manga109": [y, y8],
    }.get(benchmark, [rgb])
    if reads == ["rgb"]:
        return for_rgb
    if "rgb" not in reads:  # a network of luma; on RGB benchmarks its chroma is bicubic's
        return {"manga109": [y8]}.get(benchmark, [luma] if benchmark in LUMA_SETS else [rgb])
    if benchmark == "manga109":
        return [y8, y]
    return for_rgb if for_rgb == [rgb] else [luma, *for_rgb]


def all_conventions(task: dict, reads: list[str]) -> list[Convention]:
    """Every way in which papers have scored a task, to see which one a published number may come from."""
    both = (True, False)
    windows = ("gaussian", "uniform")
    if task["name"] == "denoise":
        return [
            Convention("", "grey", rounded, "as given", 0, windows, clipped, out)
            for rounded, clipped, out in itertools.product((False, True), (False, True), both)
            if clipped or not rounded
        ]
    if task["name"] == "dejpeg":
        return [
            Convention("", "luma", True, "as given", border, windows, output_rounded=out)
            for border, out in itertools.product((0, 8), both)
        ]
    scale = task["scale"]
    ways = [("rgb", measured) for measured in ("rgb", "y", "y8")] if "rgb" in reads else []
    ways += [("luma", "as given")] if "luma" in reads else []
    return [
        Convention("", given, rounded, measured, border, windows, output_rounded=out)
        for (given, measured), rounded, out, border in itertools.product(ways, both, both, (0, scale, scale + 6))
    ]
