"""Score a method on benchmarks, and write the records."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from nsr_cli.data.images import image_size, write_png
from nsr_cli.engine import flops, heap
from nsr_cli.engine.conventions import Convention
from nsr_cli.engine.evaluator import evaluate
from nsr_cli.engine.gate_stats import GateUse
from nsr_cli.errors import UserError
from nsr_cli.folders import code_digest
from nsr_cli.models.authors_tiling import AuthorsTiling
from nsr_cli.models.tiled import Tiling, device_of, tiling_of
from nsr_cli.models.wdsr import WDSR
from nsr_cli.names import is_of_nsr
from nsr_cli.regular import read_regular
from nsr_cli.runs.partial import PartialScores
from nsr_cli.runs.provenance import provenance
from nsr_cli.runs.record import Record, Score, write_record
from nsr_cli.runs.run import Run
from nsr_cli.words import clock, print_line

SAY_EVERY = 60  # seconds between progress lines without a terminal


def score_run(run: Run, method: Callable, benchmark: str, paths: list[Path], trained: dict | None) -> None:
    """Score a method on one benchmark by each of its conventions, and write the record.

    Args:
        trained: ``step`` and ``seconds`` of the training; None for methods that were not trained here.
    """
    tiling, conventions = tiling_for(run, method), run.conventions(benchmark)
    image_files, what = run.saved_images(benchmark, paths), f"{run.spec.model.name} on {benchmark}"
    task, luma_only = run.task_on(benchmark, paths), run.task.luma_only(run.reads)
    place = partial_file(run, benchmark, conventions) if is_kept_by_image(run) else (None, "")
    partial = PartialScores(*place, paths)
    if partial.found:
        print_line(f"{what}: {len(partial.found)} of {len(paths)} images were scored before")
    with GateUse(method) as gates, heap.keep_freed_memory():
        start, left = time.monotonic(), partial.left
        scored = evaluate(method, left, task, conventions, tiling, luma_only)
        for path, by_convention, restored in with_progress(scored, what, left):
            now = time.monotonic()
            partial.add(path, by_convention, now - start)
            start = now
            if run.request.save_images:
                write_png(image_files[path], restored)
    scores = {}
    for convention in conventions:
        images = {name: by_convention[convention.name] for name, by_convention in partial.scores.items()}
        scores[convention.name] = Score(convention, means(images), images)
    budget = trained and {
        "steps": trained["step"],
        "patches": trained["step"] * run.spec.training.batch,
        "seconds": round(trained["seconds"], 1),
    }
    save_record(
        run, method, benchmark, paths,
        tiling=vars(tiling) if tiling else None, scores=scores, gates=gates.statistics(), trained=budget,
        seconds=round(partial.seconds, 1),
    )  # fmt: skip
    partial.remove_file()


def is_kept_by_image(run: Run) -> bool:
    """Whether scores are kept image by image: of nsr's classical methods, which may take a minute for one.

    Networks are fast, and gates are counted over all images; a user's function may change in between.
    """
    is_classical = not run.trains and not run.request.ckpt
    return is_classical and is_of_nsr(run.spec.model.target) and not run.request.save_images


def partial_file(run: Run, benchmark: str, conventions: list[Convention]) -> tuple[Path, str]:
    """The file of scores of a benchmark that is not finished, and the key of all that decides a score in it."""
    made = provenance(torch.device("cpu")) | {"date": None, "commit": None, "code": code_digest()}
    decides = run.spec.signature, run.data_name(benchmark), [one.spelled_out() for one in conventions], made
    return run.folder / f"{run.record(benchmark).stem}.partial", json.dumps(decides, default=str)


def with_progress(scored: Iterator, what: str, paths: list[Path]) -> Iterator:
    """Yield the items, with a progress bar on a terminal, or else a line every SAY_EVERY seconds.

    The time left is that of the pixels left, because images of a benchmark differ in size.

    Args:
        scored: an item for each image.
        what: label of the bar and the lines.
        paths: the images.
    """
    pixels = [height * width for height, width in map(image_size, paths)]
    total = left = sum(pixels)
    start = last_report = time.monotonic()
    with tqdm(desc=what, total=total, unit="px", unit_scale=True, leave=False, disable=None) as bar:
        for done, item in enumerate(scored, 1):
            yield item
            bar.update(pixels[done - 1])
            now, left = time.monotonic(), left - pixels[done - 1]
            if bar.disable and left and now - last_report > SAY_EVERY:
                last_report, seconds = now, (now - start) / (total - left) * left
                print_line(f"{what}: {done} of {len(paths)} images, {clock(seconds)} left")


def save_record(run: Run, method: Callable, benchmark: str, paths: list[Path], **found) -> None:
    """Write the record of a run on a benchmark; ``found`` are the measured entries of the Record."""
    network = isinstance(method, nn.Module)
    own = run.own_code | (json.loads(read_regular(run.code_file)) if run.code_file.exists() else {})  # of the training
    device = device_of(method) if network else torch.device("cpu")
    content = Record(
        run=run.name,
        signature=run.spec.signature,
        spec=run.spec.signed,
        benchmark=run.data_name(benchmark),
        official_low_resolution=run.task_on(benchmark, paths).official(paths),
        cost=vars(cost_of(run, method)) if network else None,
        made={**provenance(device), **({"own": own} if own else {})},
        **found,
    )
    write_record(run.record(benchmark), content)


def tiling_for(run: Run, method: Callable) -> Tiling | None:
    """The tiling of images for a method; None for classical methods, which see whole images.

    Raises:
        UserError: tiling=authors, for a method that the authors' code does not cut images for.
    """
    tiling = tiling_of(method, run.spec.tile) if isinstance(method, nn.Module) else None
    if run.spec.tiling == "usual":
        return tiling
    if not has_authors_tiling(method, tiling):
        what = f"model={run.spec.model.name} sparsity={run.spec.sparsity['gate']}"
        raise UserError(f"tiling=authors: their code cuts images for model=wdsr with gates; this is {what}")
    return AuthorsTiling(**vars(tiling))


def has_authors_tiling(method: Callable, tiling: Tiling | None) -> bool:
    """Whether the authors' code cuts images for a method: WDSR with gates."""
    return isinstance(method, WDSR) and tiling.overlap > 0


def cost_of(run: Run, network: nn.Module) -> flops.Cost:
    """Multiply-accumulates and parameters of a run's network, with gates counted on its evaluation tiles."""
    return flops.count(network, run.task.channels_given(run.reads), tiling_of(network, run.spec.tile).side)


def means(images: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean of per-image values by metric; the PSNR is not that of the mean squared error."""
    names = next(iter(images.values()))
    return {name: math.fsum(scores[name] for scores in images.values()) / len(images) for name in names}


def convention_table(run: Run, method: Callable, benchmark: str, paths: list[Path]) -> str:
    """A table of mean scores on one benchmark: a row for each convention, and for each tiling of gated networks."""
    default_tiling = tiling_of(method, run.spec.tile) if isinstance(method, nn.Module) else None
    tilings = [default_tiling]
    if default_tiling and default_tiling.overlap:  # gates: the tile is part of the protocol
        tilings += [Tiling(2 * default_tiling.side, default_tiling.margin, default_tiling.overlap), Tiling(2**20, 0, 0)]
    if has_authors_tiling(method, default_tiling):
        tilings.append(AuthorsTiling(**vars(default_tiling)))
    metrics = ("psnr", "ssim", "ssim8")
    conventions = [replace(c, name=str(i), metrics=metrics) for i, c in enumerate(run.task.every_convention(run.reads))]
    lines, task, luma_only = [], run.task_on(benchmark, paths), run.task.luma_only(run.reads)
    for tiling in tilings:
        found = {path.name: scores for path, scores, _ in evaluate(method, paths, task, conventions, tiling, luma_only)}
        tile = "any"
        if tiling and default_tiling.overlap:
            tile = "whole" if tiling.side == 2**20 else str(tiling.side)
        if isinstance(tiling, AuthorsTiling):
            tile += ", authors'"
        for c in conventions:
            mean = means({name: scores[c.name] for name, scores in found.items()})
            degraded = "rounded" if c.rounded else "clipped" if c.clipped else "float"
            measured = c.given if c.measured == "as given" else c.measured
            output = "rounded" if c.output_rounded else "float"
            numbers = (f"{mean['psnr']:.4f}", f"{mean['ssim']:.5f}", f"{mean['ssim8']:.5f}")
            lines.append([c.given, degraded, output, measured, c.border, tile, *numbers])
    head = ["reads", "degraded", "restored", "measured", "border", "tile", "PSNR", "SSIM Gaussian", "SSIM 8x8"]
    title = f"{run.spec.model.name} on {benchmark} under every convention (see the record for the table's own):"
    return f"{title}\n\n{tabulate(lines, head, tablefmt='pipe', disable_numparse=True)}"
