"""Plots of PSNR against cardinality and cost, and of trainings."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, stdev
from typing import TYPE_CHECKING

from nsr_cli.report.experiments import Experiment
from nsr_cli.report.figures import FAINT, INK, SMALL, blank_figure
from nsr_cli.report.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "X", "P")


def line_style(number: int) -> dict:
    """The style of a line: colour, dashes and marker. The first 42 styles differ, also in grey."""
    repeated, place = divmod(number, len(COLORS))
    color, dashes = COLORS[place], DASHES[(place + repeated) % len(DASHES)]  # lines of one colour differ in dashes
    return {"color": color, "linestyle": dashes, "marker": MARKERS[number % len(MARKERS)]}


@dataclass(frozen=True)
class Point:
    """A network: multiply-accumulates per input pixel, parameters, and its PSNR for each seed."""

    macs: float
    parameters: int
    psnr: list[float]


def against_cardinality(panels: dict[str, dict[str, list[float]]], heading: str) -> "Figure":
    """PSNR against cardinality, a panel for each benchmark; rows without a cardinality are horizontal lines.

    Args:
        panels: PSNR in dB for each seed, by benchmark, then by label; a label that is a number is a cardinality.
        heading: of the figure.
    """
    from matplotlib.ticker import NullLocator

    figure = blank_figure(max(4.6 * len(panels), 6), 4.4, heading)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (benchmark, values) in zip(axes, panels.items(), strict=True):
        points = sorted((int(label), psnrs) for label, psnrs in values.items() if label.isdigit() and psnrs)
        if points:
            plot_means(axis, [d for d, _ in points], [psnrs for _, psnrs in points], "sparse, softmax", line_style(0))
        others = [(label, psnrs) for label, psnrs in values.items() if not label.isdigit() and psnrs]
        for number, (label, psnrs) in enumerate(others, 1):
            level, around = mean(psnrs), deviation(psnrs)
            axis.axhline(level, label=label, **(line_style(number) | {"marker": ""}))
            axis.axhspan(level - around, level + around, color=COLORS[number], alpha=0.15, linewidth=0)
        axis.set_xscale("log", base=2)
        cardinalities = sorted(int(label) for label in values if label.isdigit())
        axis.set_xticks(cardinalities, [str(d) for d in cardinalities])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(cardinalities[0] / 1.3, cardinalities[-1] * 1.3)
        style_axis(
            axis, "cardinality d (groups of channels with gates of their own)", f"PSNR in RGB on {benchmark} [dB]"
        )
    add_legend(figure)
    return figure


def against_cost(lines: dict[str, list[Point]], benchmark: str, heading: str) -> "Figure":
    """PSNR against multiply-accumulates and against parameters, side by side; a line for each label."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = blank_figure(9.2, 4.6, heading)
    macs, parameters = figure.subplots(1, 2, sharey=True)
    for number, (label, points) in enumerate(lines.items()):
        if not points:  # its style stays reserved
            continue
        psnrs = [point.psnr for point in points]
        plot_means(macs, [point.macs / 1e6 for point in points], psnrs, label, line_style(number))
        plot_means(parameters, [point.parameters / 1e6 for point in points], psnrs, label, line_style(number))
    for axis in (macs, parameters):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    style_axis(macs, "multiply-accumulates per input pixel [millions]", f"PSNR in RGB on {benchmark} [dB]")
    style_axis(parameters, "parameters [millions]", "")
    add_legend(figure)
    return figure


def curves_figure(runs: dict[str, list[dict]], heading: str) -> "Figure":
    """The loss against steps, and the validation PSNR where there is one; a line for each run.

    Args:
        runs: by label, the lines of stats.jsonl: step, loss, learning_rate, and psnr where it was measured.
        heading: of the figure.
    """
    validated = any("psnr" in line for lines in runs.values() for line in lines)
    figure = blank_figure(10.5 if validated else 7.5, 4.8, heading)
    loss, *validation = figure.subplots(1, 1 + validated, squeeze=False)[0]
    lowest, highest, begun = math.inf, 0.0, max(lines[-1]["step"] for lines in runs.values()) / 10
    for number, (label, lines) in enumerate(runs.items()):
        steps, window = [line["step"] for line in lines], max(1, len(lines) // 20)
        values = smoothed([255 * line["loss"] for line in lines], window)
        every = max(1, len(lines) // 8)
        marks = number * every // len(runs), every  # so that markers of close lines do not overlap
        loss.plot(steps, values, label=label, markersize=4, linewidth=1.2, markevery=marks, **line_style(number))
        lowest = min(lowest, *values)
        highest = max([highest, *(value for step, value in zip(steps, values, strict=True) if step >= begun)])
        if measured := [(line["step"], line["psnr"]) for line in lines if "psnr" in line]:
            validation[0].plot(
                *zip(*measured, strict=True), label=label, markersize=4, linewidth=1.2, **line_style(number)
            )
    loss.set_ylim(0.98 * lowest, 1.02 * highest)  # the first steps would flatten the rest
    mark_drops(loss, next(iter(runs.values())))
    style_axis(loss, "training step", "L1 loss, running mean [grey levels of 255]")
    for axis in validation:
        style_axis(axis, "training step", "validation PSNR [dB]")
    add_legend(figure)
    return figure


def smoothed(values: list[float], window: int) -> list[float]:
    """The mean over ``window`` values around each, fewer at the ends."""
    before, after = (window - 1) // 2, window // 2 + 1
    return [mean(values[max(0, i - before) : i + after]) for i in range(len(values))]


def mark_drops(axis: "Axes", lines: list[dict]) -> None:
    """A vertical line where the learning rate changes, with the new one beside it."""
    for last, line in pairwise(lines):
        if line["learning_rate"] != last["learning_rate"]:
            axis.axvline(last["step"], color=FAINT, linewidth=0.8)
            text = f" learning rate {line['learning_rate']:.0e}"
            place = {"rotation": 90, "va": "top", "ha": "right", "transform": axis.get_xaxis_transform()}
            axis.text(last["step"], 0.99, text, fontsize=SMALL, color=INK, **place)


def plot_means(axis: "Axes", x: list[float], psnrs: list[list[float]], label: str, style: dict) -> None:
    """Plot a line of means over seeds, with standard deviations where there are several seeds."""
    kept = [(at, values) for at, values in zip(x, psnrs, strict=True) if values]
    deviations = [deviation(values) for _, values in kept]
    axis.errorbar(
        [at for at, _ in kept],
        [mean(values) for _, values in kept],
        yerr=deviations if any(deviations) else None,
        label=label,
        capsize=3,
        markersize=5,
        linewidth=1.2,
        **style,
    )


def deviation(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def style_axis(axis: "Axes", x: str, y: str) -> None:
    axis.set_xlabel(x, fontsize=SMALL, color=INK)
    axis.set_ylabel(y, fontsize=SMALL, color=INK)
    axis.tick_params(labelsize=SMALL, colors=INK)
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def add_legend(figure: "Figure") -> None:
    """Add one legend for all panels, below them."""
    found = dict(pair for axis in figure.axes for pair in zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    wide = 0.85 + max(map(len, found)) * 0.6 * SMALL / 72  # inches of an entry
    rows = -(-len(found) // max(1, int(figure.get_figwidth() / wide)))
    layout = {"ncols": -(-len(found) // rows), "fontsize": SMALL, "handlelength": 3.5}
    figure.legend(list(found.values()), list(found), loc="outside lower center", **layout)


def lines_of(experiment: Experiment, values: list[Value], costs: dict) -> dict[str, list[Point]]:
    """A line of points by label for each row, with a point for each measured column."""
    lines: dict[str, list[Point]] = {}
    for value in values:
        label = f"{experiment.corner} = {value.row}" if value.row.isdigit() else value.row
        points = lines.setdefault(label, [])
        if cost := costs.get((value.row, value.column)):
            points.append(Point(cost["macs"], cost["parameters"], list(value.measured["psnr"].values())))
    return lines
