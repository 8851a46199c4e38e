"""Tables: a pure function of an experiment and its records, in Markdown."""

from dataclasses import dataclass
from statistics import mean, stdev

from tabulate import tabulate

from nsr_cli.report.experiments import Experiment


@dataclass(frozen=True)
class Cell:
    """A row's record on one benchmark with one seed: None where it is missing, and the command that makes it."""

    label: str
    benchmark: str
    seed: int
    record: dict | None
    command: str


def render(experiment: Experiment, cells: list[Cell], protocol: str) -> str:
    """The table in Markdown: measured beside printed, gains over the baseline, caption, and what is missing."""
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in cells))
    values = {
        (row.label, benchmark): [
            cell.record["scores"][experiment.score][experiment.metric]
            for cell in cells
            if cell.label == row.label and cell.benchmark == benchmark and cell.record
        ]
        for row in experiment.rows
        for benchmark in benchmarks
    }
    lines = [[row.label, *_row(experiment, row, benchmarks, values)] for row in experiment.rows]
    header = [experiment.corner]
    for benchmark in benchmarks:
        header += [f"PSNR {benchmark}", f"over {experiment.baseline}"]
    header += [f"printed ({experiment.printed_on})", "measured - printed"]
    align = ["left", *["right"] * (len(header) - 1)]
    parts = [
        f"## {experiment.title}",
        tabulate(lines, header, tablefmt="pipe", colalign=align, disable_numparse=True),
        _caption(experiment, cells, protocol, benchmarks),
    ]
    if effects := _claims(experiment, benchmarks[0], values):
        parts.append(effects)
    if missing := list(dict.fromkeys(cell.command for cell in cells if cell.record is None)):
        parts.append("Missing (`run=true` runs them all):\n\n" + "\n".join(f"    {command}" for command in missing))
    return "\n\n".join(parts) + "\n"


def _row(experiment: Experiment, row, benchmarks: list[str], values: dict) -> list[str]:
    shown = []
    for benchmark in benchmarks:
        own, base = values[row.label, benchmark], values[experiment.baseline, benchmark]
        spread = f" ± {stdev(own):.3f}" if len(own) > 1 else ""
        shown.append(f"{mean(own):.3f}{spread}" if own else "missing")
        shown.append(f"{mean(own) - mean(base):+.3f}" if own and base and row.label != experiment.baseline else "")
    printed = "" if row.printed is None else f"{row.printed:.2f}"
    own = values[row.label, benchmarks[0]]
    return [*shown, printed or "not known", f"{mean(own) - row.printed:+.3f}" if printed and own else ""]


def _caption(experiment: Experiment, cells: list[Cell], protocol: str, benchmarks: list[str]) -> str:
    records = [cell.record for cell in cells if cell.record]
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells}))
    text = f"{experiment.text} Shown: **protocol {protocol}**, scored on {', '.join(benchmarks)}; seeds {seeds}"
    budgets = sorted({(r["trained"]["steps"], r["config"]["training"]["batch"]) for r in records if r["trained"]})
    if budgets:
        text += "; trained for " + " and ".join(f"{steps:,} steps of {batch} patches" for steps, batch in budgets)
    if records:
        macs = " or ".join(dict.fromkeys(f"{r['cost']['macs'] / 1e6:.4g}" for r in records))
        overhead = max(r["cost"]["overhead"] for r in records) / 1e6
        text += f"; {macs} M multiply-accumulates of convolutions per input pixel"
        text += f", and up to {overhead:.2g} M for gates and mixing" if overhead else ""
    text += "."
    if benchmarks != [experiment.printed_on]:
        text += (
            f" Measured on other images than the printed numbers ({experiment.printed_on}), by smaller networks: "
            "compare the gains, not the levels."
        )
    return text


def _claims(experiment: Experiment, benchmark: str, values: dict) -> str:
    lines = []
    for claim in experiment.claims:
        better, worse = values[claim.better, benchmark], values[claim.worse, benchmark]
        if better and worse:
            lines.append(f"- {claim.better} above {claim.worse}: {mean(better) - mean(worse):+.3f} dB on {benchmark}")
    return "\n".join(["The paper's claims, as measured here:", "", *lines]) if lines else ""
