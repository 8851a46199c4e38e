"""Tables: a function of an experiment and its records, as Markdown, CSV or LaTeX."""

from collections.abc import Sequence
from statistics import stdev

from tabulate import tabulate

from nsr_cli.report.claims import ALPHA, ENOUGH_SEEDS
from nsr_cli.report.experiments import Experiment
from nsr_cli.report.sheet import Grid, Sheet, sheet_of
from nsr_cli.report.values import METRICS, Cell, Value, values_of
from nsr_cli.report.verdicts import Verdict, steps_of

RULE = (
    f"A claim holds when two one-sided t-tests, paired by image and paired by seed, say so at {ALPHA} in every column; "
    f"it fails when both say the opposite in one, at {ALPHA} over the number of comparisons. It takes {ENOUGH_SEEDS} "
    "seeds. Effects and gains are means over the seeds that both rows have, with their standard deviation."
)
CONTROLS = (
    "Uniform: k kernels with equal weights and no gate. Static: k learned weights, the same for every input. "
    "After training both are one plain convolution."
)
GATES = (
    "Effective number of groups (the exponential of the weights' mean entropy), and adaptivity: the mutual "
    "information between tile and group. Near k groups and near 0 bits, a gate does what uniform weights do."
)
FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}


def render(experiment: Experiment, cells: list[Cell], protocol: str, form: str = "markdown", prose: bool = True) -> str:
    """The table in one of FORMATS; without ``prose``, only the title and the grid of the paper's rows."""
    if form == "csv":
        return _csv(experiment, values_of(experiment, cells, protocol), protocol)
    sheet = sheet_of(experiment, cells, protocol)
    if not prose:
        return f"## {experiment.title}\n\n{_grid_text(sheet.paper)}\n"
    return _latex(sheet) if form == "latex" else _markdown(sheet)


def _markdown(sheet: Sheet) -> str:
    experiment = sheet.experiment
    parts = [f"## {experiment.title}", _grid_text(sheet.paper), _caption(sheet)]
    parts.append(_claims("The paper's claim", sheet.claims))
    if sheet.controls:
        parts += ["### Controls, not in the paper", _grid_text(sheet.controls), CONTROLS]
        parts.append(_claims("Our question", sheet.own_claims))
    if sheet.gates:
        parts += ["### What the gates do", _grid_text(sheet.gates), GATES]
    if experiment.claims or experiment.own_claims:
        parts.append(RULE)
    return "\n\n".join(part for part in parts if part) + "\n"


def _latex(sheet: Sheet) -> str:
    remarks = "\n".join(f"% {line}" for line in _caption(sheet).replace("**", "").splitlines())
    table = _grid_text(sheet.paper, "latex_booktabs")
    if sheet.controls:
        table += "\n% controls, not in the paper\n" + _grid_text(sheet.controls, "latex_booktabs")
    return f"% {sheet.experiment.title}\n{table}\n{remarks}\n"


def _grid_text(grid: Grid, style: str = "pipe") -> str:
    align = ["left", *["right"] * (len(grid.head) - 1)]
    return _aligned(grid.rows, grid.head, align, style)


def _aligned(rows: Sequence[Sequence], head: Sequence[str], align: list[str], style: str = "pipe") -> str:
    bar = r"\|" if style == "pipe" else "|"  # in a label it is no border
    head, *rows = ([str(place).replace("|", bar) for place in row] for row in (head, *rows))
    return tabulate(rows, head, tablefmt=style, colalign=align, disable_numparse=True)


def _caption(sheet: Sheet) -> str:
    ways = "\n".join(f"- {', '.join(labels)}: {said}" for said, labels in sheet.conventions.items())
    return f"{sheet.caption}\n\n{ways}" if ways else sheet.caption


def _claims(title: str, found: Sequence[Verdict]) -> str:
    """A table of verdicts on claims: for each, a line for each column with its deciding step."""
    lines = []
    for verdict in found:
        counts = f" ({verdict.counts})" if verdict.counts else ""
        said = f"**{verdict.word}**: {verdict.claim.says}{counts}"
        for i, step in enumerate(steps_of(verdict)):
            decided_by = f"{step.finding.high} - {step.finding.low}"
            lines.append([said * (i == 0), step.column, decided_by, step.effect, step.margin])
            lines[-1] += [step.p_images, step.p_seeds, step.verdict]
    if not lines:
        return ""
    head = [title, "on", "decided by", "effect [dB]", "above", "p images", "p seeds", "verdict"]
    align = ["left"] * 3 + ["right"] * 4 + ["left"]
    return _aligned(lines, head, align)


def _csv(experiment: Experiment, values: list[Value], protocol: str) -> str:
    """CSV with a line for each place and metric, with every digit."""
    import pandas as pd

    lines = [
        {
            "table": experiment.name,
            "protocol": protocol,
            "row": value.row,
            "column": value.column,
            "metric": METRICS.get(metric, metric),
            "measured": value.mean(metric),
            "deviation": stdev(value.measured[metric].values()) if len(value.measured[metric]) > 1 else None,
            "seeds": len(value.measured[metric]),
            "diverged": value.diverged,
            "printed": value.printed.get(metric),
            "difference": value.difference(metric),
        }
        for value in values
        for metric in experiment.metrics
    ]
    return pd.DataFrame(lines).to_csv(index=False)
