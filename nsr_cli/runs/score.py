"""Score a method on benchmarks, and write what was found down."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from nsr_cli.data.identity import data_name
from nsr_cli.data.images import write_png
from nsr_cli.engine import flops, heap
from nsr_cli.engine.evaluator import evaluate
from nsr_cli.engine.gate_stats import GateUse
from nsr_cli.models.tiled import Tiling, tiling_of
from nsr_cli.runs.provenance import provenance
from nsr_cli.runs.record import Record, Score, write_record
from nsr_cli.runs.run import Run


def score_run(run: Run, method: Callable, benchmark: str, paths: list[Path], trained: dict | None) -> None:
    """Score a method on one benchmark by each of its conventions, and write the record.

    Args:
        trained: what is left of a training: ``step`` and ``seconds``; None for methods that were not trained here.
    """
    began = time.monotonic()
    tiling, used = tiling_for(run, method), run.conventions(benchmark)
    found, places = {}, run.saved_images(benchmark, paths)
    luma_only = run.task.luma_only(run.reads)
    with GateUse(method) as gates, heap.kept():
        for path, by_convention, restored in evaluate(method, paths, run.task, used, tiling, luma_only):
            found[path.name] = by_convention
            if run.request.save_images:
                write_png(places[path], restored)
    scores = {}
    for convention in used:
        images = {name: by_convention[convention.name] for name, by_convention in found.items()}
        scores[convention.name] = Score(convention, means(images), images)
    steps = trained and {"steps": trained["step"], "patches": trained["step"] * run.spec.training.batch}
    budget = steps and {**steps, "seconds": round(trained["seconds"], 1)}
    record(
        run, method, benchmark, paths,
        tiling=vars(tiling) if tiling else None, scores=scores, gates=gates.found(), trained=budget,
        seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


def record(run: Run, method: Callable, benchmark: str, paths: list[Path], **found) -> None:
    """Write what was found out about a run on a benchmark, beside what both are."""
    network = isinstance(method, nn.Module)
    device = next(method.parameters()).device if network else torch.device("cpu")
    content = Record(
        run=run.name,
        signature=run.spec.signature,
        spec=run.spec.signed,
        benchmark=data_name(benchmark),
        official_low_resolution=run.task.official(paths),
        cost=vars(cost_of(run, method)) if network else None,
        made=provenance(device),
        **found,
    )
    write_record(run.record(benchmark), content)


def tiling_for(run: Run, method: Callable) -> Tiling | None:
    """How images are cut for a method; None for classical ones, which see them whole."""
    return tiling_of(method, run.spec.tile) if isinstance(method, nn.Module) else None


def cost_of(run: Run, network: nn.Module) -> flops.Cost:
    return flops.count(network, run.task.channels_given(run.reads), tiling_of(network, run.spec.tile).side)


def means(images: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean of per-image values (not of mean squared errors)."""
    names = next(iter(images.values()))
    return {name: math.fsum(scores[name] for scores in images.values()) / len(images) for name in names}


def explanation(run: Run, method: Callable, benchmark: str, paths: list[Path]) -> str:
    """The mean scores on one benchmark under every convention, and for gated networks every tile, as a table."""
    usual = tiling_for(run, method)
    tilings = [usual]
    if usual and usual.overlap:  # of a network with gates: the tile is part of the protocol
        tilings += [Tiling(2 * usual.side, usual.margin, usual.overlap), Tiling(2**20, 0, 0)]
    metrics = ("psnr", "ssim", "ssim8")
    listed = [replace(c, name=str(i), metrics=metrics) for i, c in enumerate(run.task.every_convention(run.reads))]
    lines, luma_only = [], run.task.luma_only(run.reads)
    for tiling in tilings:
        found = {path.name: scores for path, scores, _ in evaluate(method, paths, run.task, listed, tiling, luma_only)}
        tile = "any" if tiling is None or not usual.overlap else "whole" if tiling.side == 2**20 else str(tiling.side)
        for c in listed:
            mean = means({name: scores[c.name] for name, scores in found.items()})
            degraded = "rounded" if c.rounded else "clipped" if c.clipped else "float"
            measured = c.given if c.measured == "as given" else c.measured
            output = "rounded" if c.output_rounded else "float"
            numbers = (f"{mean['psnr']:.4f}", f"{mean['ssim']:.5f}", f"{mean['ssim8']:.5f}")
            lines.append([c.given, degraded, output, measured, c.border, tile, *numbers])
    head = ["reads", "degraded", "restored", "measured", "border", "tile", "PSNR", "SSIM Gaussian", "SSIM 8x8"]
    title = f"{run.spec.model.name} on {benchmark} under every convention (see the record for the table's own):"
    return f"{title}\n\n{tabulate(lines, head, tablefmt='pipe', disable_numparse=True)}"
