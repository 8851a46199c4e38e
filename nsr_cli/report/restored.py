"""Figures of images: what trained runs restore, and what their gates choose."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from nsr_cli.data.catalog import image_paths
from nsr_cli.data.images import read_image
from nsr_cli.engine.evaluator import restore, score
from nsr_cli.engine.gate_maps import gate_maps, second_gates
from nsr_cli.engine.gate_stats import GateUse
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.models.luma import ColourByLuma
from nsr_cli.report import pictures
from nsr_cli.report.pictures import Gated, Panel
from nsr_cli.runs.build import build, pick_device, trained_network
from nsr_cli.runs.run import Run
from nsr_cli.runs.score import tiling_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = 60  # values of a map along the longer side of an image


def compare_figure(bicubic: Run, runs: dict[str, Run], benchmark: str, path: Path, crop: int, heading: str) -> "Figure":
    """One image: low resolution, bicubic, each of the runs, ground truth.

    Args:
        bicubic: the bicubic run at the scale of the others.
        runs: trained runs, by title.
        benchmark: its convention measures PSNR.
        path: the image.
        crop: side of the zoomed part in pixels of the truth.
        heading: of the figure.
    """
    task, device = bicubic.task_on(benchmark, [path]), torch.device("cpu")
    convention = task.conventions(benchmark, ["rgb"], bicubic.data)[-1]
    image = read_image(path)
    degraded, truth = task.prepare(path, image, convention)

    def panel(title: str, method, tiling) -> Panel:
        with torch.no_grad():
            restored = restore(method, degraded, task.scale, tiling)
        return Panel(title, restored, f"{score(restored, truth, image, convention)['psnr']:.2f} dB")

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(task.scale, 2).repeat_interleave(task.scale, 3)

    panels = [panel("low resolution", nearest, None), panel("bicubic", build(bicubic, device), None)]
    for title, run in runs.items():
        network = trained_network(run, device)
        method = ColourByLuma(network, task.scale) if task.luma_only(run.reads) else network  # as in scoring
        panels.append(panel(title, method, tiling_for(run, network)))
    panels.append(Panel("ground truth", np.ascontiguousarray(truth), "PSNR"))
    measured = {"rgb": "RGB"}.get(convention.measured, "Y")
    whole = f"{path.name}, x{task.scale}: {heading}\nPSNR in {measured}, border {convention.border}"
    return pictures.side_by_side(panels, crop, whole)


def gates_figure(run: Run, paths: list[Path], title: str, heading: str) -> "Figure":
    """Figure 5: the gates of every block of a trained run over images."""
    network = trained_network(run, pick_device("auto"))
    gate = second_gates(network)[0]
    sums_to_one = gate.activation in ("softmax", "gumbel")
    groups = range(1 if sums_to_one and gate.sparsity_groups == 2 else gate.sparsity_groups)  # the first tells both
    with GateUse(network) as use:
        images = [gated_image(network, run, path, list(groups)) for path in paths]
    names, found = {id(own): name for name, own in use.gates.items()}, use.statistics()
    told = [found[names[id(own)]] for own in second_gates(network) if id(own) in names]
    of = f", the first of {gate.cardinality} cardinal groups" if gate.cardinality > 1 else ""
    return pictures.gates_figure(images, [f"group {group + 1}" for group in groups], f"{title}{of}\n{heading}", told)


def check_gates(given: str, run: Run) -> None:
    """Raise UserError unless a run's network has gates to show."""
    if not second_gates(build(run, pick_device("auto"))):
        raise UserError(f"runs=[{given}]: its network has no blocks with gates to show")


def gated_image(network: nn.Module, run: Run, path: Path, groups: list[int]) -> Gated:
    """An image as the network reads it, and the gates over it."""
    benchmark = run.request.benchmarks[0]
    convention = run.conventions(benchmark)[0]
    degraded, _ = run.task_on(benchmark, [path]).prepare(path, read_image(path), convention)
    stride = max(1, round(max(degraded.shape[:2]) / CELLS))
    maps = gate_maps(network, np.atleast_3d(degraded), tiling_for(run, network).side, stride)
    return Gated(path.name, np.asarray(degraded).clip(0, 255).astype(np.uint8), maps[:, groups], stride)


def images_of(benchmark: str, data: Path, names: list[str]) -> list[Path]:
    """The benchmark's images of these names; its first where none is given."""
    paths = {path.name: path for path in image_paths(benchmark, data)}
    for name in names:
        if name not in paths:
            raise UserError(
                f"image={name}: not in {benchmark}{did_you_mean(name, list(paths))}; there are: {', '.join(paths)}"
            )
    return [paths[name] for name in names or [next(iter(paths))]]
