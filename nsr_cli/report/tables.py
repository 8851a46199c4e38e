"""Tables: a pure function of an experiment and its records, as Markdown, CSV or LaTeX."""

from collections import Counter
from dataclasses import dataclass
from statistics import mean, stdev

from tabulate import tabulate

from nsr_cli.report.claims import ALPHA, ENOUGH_SEEDS, Scores, judge, overall, weakest
from nsr_cli.report.experiments import Experiment, Line
from nsr_cli.runs.record import Record, Score

METRICS = {"psnr": "PSNR", "ssim": "SSIM", "ssim8": "SSIM 8x8"}
RULE = (
    f"A claim holds when two one-sided t-tests, paired by image and paired by seed, say so at {ALPHA} in every column; "
    f"it fails when both say the opposite in one, at {ALPHA} over the number of comparisons. It takes {ENOUGH_SEEDS} "
    "seeds. Effects and gains are means over the seeds that both rows have, with their standard deviation."
)
FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}


@dataclass(frozen=True)
class Cell:
    """One job of one seed, scored on one benchmark.

    Attributes:
        row, column: labels; a column of a table without columns is its benchmark.
        record: None where it is missing.
        job: the verb and the overrides that make it.
        trained: whether that is a training.
    """

    row: str
    column: str
    benchmark: str
    seed: int
    record: Record | None
    job: tuple[str, ...] = ()
    trained: bool = True


@dataclass(frozen=True)
class Value:
    """What one place of a table shows: numbers over seeds beside the printed ones, by metric."""

    row: str
    column: str
    measured: dict[str, dict[int, float]]  # by metric, then by seed
    printed: dict[str, str]  # as printed: their digits decide how many are shown
    seeds: int  # asked for; 0 where there is no command
    diverged: int  # of those

    def shown(self, metric: str, psnr_digits: int = 2) -> str:
        """Mean over seeds with the paper's digits (PSNR 2, SSIM 4), the deviation, and how many seeds are lacking."""
        numbers = list(self.measured.get(metric, {}).values())
        if not numbers:
            return "diverged" if self.diverged else "missing" if self.seeds else ""
        digits = psnr_digits if metric == "psnr" else 4
        spread = f" ± {stdev(numbers):.{max(digits, 3)}f}" if len(set(numbers)) > 1 else ""
        return short(mean(numbers), digits) + spread + self.lacking(len(numbers))

    def lacking(self, found: int) -> str:
        """How many of the seeds are there, where that is not all of them."""
        if found >= self.seeds:
            return ""
        return f" ({found} of {self.seeds} seeds{f', {self.diverged} diverged' if self.diverged else ''})"

    def mean(self, metric: str) -> float | None:
        return mean(self.measured[metric].values()) if self.measured.get(metric) else None

    def difference(self, metric: str) -> float | None:
        printed = self.printed.get(metric)
        return self.mean(metric) - float(printed) if self.measured.get(metric) and printed else None

    def gain(self, base: "Value") -> float | None:
        """Mean difference in PSNR from another row, over the seeds of both."""
        own, other = self.measured["psnr"], base.measured["psnr"]
        both = own.keys() & other.keys()
        return mean(own[seed] - other[seed] for seed in both) if both else None


def short(number: float, digits: int) -> str:
    """A number with so many decimals; SSIM without its leading zero, as papers print it."""
    text = f"{number:.{digits}f}"
    return text.removeprefix("0") if digits == 4 else text


def values_of(experiment: Experiment, cells: list[Cell], protocol: str) -> list[Value]:
    """The places of the table, row by row."""
    rows, columns = experiment.lines(protocol)
    labels = [column.label for column in columns] or list(dict.fromkeys(cell.column for cell in cells))
    lines = {line.label: line for line in columns}
    values = []
    for row in rows:
        for label in labels:
            own = [cell for cell in cells if (cell.row, cell.column) == (row.label, label)]
            scores = {cell.seed: score_of(experiment, cell.record) for cell in own if is_scored(cell.record)}
            measured = {m: {seed: s.means[m] for seed, s in scores.items() if m in s.means} for m in experiment.metrics}
            printed = printed_at(experiment, row, lines.get(label), label)
            diverged = sum(cell.record is not None for cell in own) - len(scores)
            values.append(Value(row.label, label, measured, printed, len(own), diverged))
    return values


def is_scored(record: Record | None) -> bool:
    """Whether there is a record with scores, which a run that diverged has not."""
    return record is not None and record.diverged is None


def score_of(experiment: Experiment, record: Record) -> Score:
    """The scores that a cell shows: by the experiment's convention, else by the record's first."""
    return record.scores[experiment.score or next(iter(record.scores))]


def printed_at(experiment: Experiment, row: Line, column: Line | None, label: str) -> dict[str, str]:
    """The paper's numbers at a place, by metric; "33.66 .9299" is PSNR and SSIM, "27.82 8x8 .7800" the 8x8 one."""
    numbers = row.printed.get(label) or (column.printed.get(row.label) if column else None)
    if not numbers:
        return {}
    psnr, *similarity = str(numbers).split()
    metric = "ssim8" if similarity[:1] == ["8x8"] else "ssim"
    return {"psnr": psnr, **({metric: similarity[-1]} if similarity else {})}


def render(experiment: Experiment, cells: list[Cell], protocol: str, form: str = "markdown") -> str:
    """The table in one of FORMATS."""
    values = values_of(experiment, cells, protocol)
    if form == "csv":
        return _csv(experiment, values, protocol)
    head, body = (_gains if experiment.baseline else _grid)(experiment, values, cells, protocol)
    align = ["left", *["right"] * (len(head) - 1)]
    style = "latex_booktabs" if form == "latex" else "pipe"
    table = tabulate(body, head, tablefmt=style, colalign=align, disable_numparse=True)
    caption = _caption(experiment, cells, protocol, values)
    if form == "latex":
        said = "\n".join(f"% {line}" for line in caption.replace("**", "").splitlines())
        return f"% {experiment.title}\n{table}\n{said}\n"
    parts = [f"## {experiment.title}", table, caption, _claims(experiment, cells, protocol)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gains(experiment: Experiment, values: list[Value], cells: list[Cell], protocol: str) -> tuple[list, list]:
    """Rows against a baseline: measured, gain, printed, difference; three digits, as the gains are small."""
    columns = list(dict.fromkeys(value.column for value in values))
    head = [experiment.corner]
    for column in columns:
        head += [f"PSNR {column}", f"over {experiment.baseline}"]
    comparable = columns == [experiment.printed_on]
    head += [f"printed ({experiment.printed_on})", *["measured - printed"] * comparable]
    at = {(value.row, value.column): value for value in values}
    body = []
    for row in experiment.lines(protocol)[0]:
        line = [row.label]
        for column in columns:
            value = at[row.label, column]
            gain = value.gain(at[experiment.baseline, column]) if row.label != experiment.baseline else None
            line += [value.shown("psnr", 3), "" if gain is None else f"{gain:+.3f}"]
        printed = row.printed.get(experiment.printed_on)
        own = at[row.label, columns[0]].mean("psnr") if columns else None
        off = f"{own - float(printed):+.3f}" if printed and own else ""
        body.append([*line, printed or "not known", *[off] * comparable])
    return head, body


def _grid(experiment: Experiment, values: list[Value], cells: list[Cell], protocol: str) -> tuple[list, list]:
    """Methods side by side: for each, measured (with its difference where the printed digits differ) and printed.

    An ablation (whose printed numbers are of one benchmark) has a third digit, for its differences are small.
    """
    digits = 3 if experiment.printed_on else 2
    comparable = not experiment.printed_on or all(cell.benchmark == experiment.printed_on for cell in cells)
    rows, columns = experiment.lines(protocol)
    columns = columns or [Line(label) for label in dict.fromkeys(value.column for value in values)]  # benchmarks
    head = [experiment.corner, *(text for column in columns for text in (column.label, "printed"))]
    body = []
    if any(column.flops for column in columns):
        body.append(["M MACs per pixel", *(text for column in columns for text in _flops(column, cells))])
    at = {(value.row, value.column): value for value in values}
    for row in rows:
        line = [row.label]
        for column in columns:
            value = at[row.label, column.label]
            has = [metric for metric in experiment.metrics if value.measured[metric]]
            measured = " / ".join(value.shown(metric, digits) for metric in has) or value.shown("psnr")
            line += [measured + (_off(value) if comparable else ""), " / ".join(value.printed.values())]
        body.append(line)
    return head, body


def _flops(column: Line, cells: list[Cell]) -> tuple[str, str]:
    """(computed, printed) multiply-accumulates of a method's first job: x2, where there are several scales."""
    printed = column.flops or ""
    own = [cell for cell in cells if cell.column == column.label]
    for cell in own:
        if cell.job == own[0].job and cell.record and cell.record.cost:
            per_output = cell.record.spec["task"].get("scale", 1) ** 2 if column.flops_per == "output" else 1
            return f"{cell.record.cost['macs'] / per_output / 1e6:.2g}", printed
    return "", printed


def _off(value: Value) -> str:
    """Differences from print, where they show in the printed digits."""
    off = []
    for metric, printed in value.printed.items():
        difference, digits = value.difference(metric), len(printed.partition(".")[2])
        if difference is not None and f"{value.mean(metric):.{digits}f}" != f"{float(printed):.{digits}f}":
            off.append(f"{difference:+.{digits}f}")
    return f" ({', '.join(off)})" if off else ""


def _caption(experiment: Experiment, cells: list[Cell], protocol: str, values: list[Value]) -> str:
    records = [cell.record for cell in cells if is_scored(cell.record)]
    trained = [record for record in records if record.trained]
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells}))
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in cells))
    parts = [f"{experiment.text} Shown: **protocol {protocol}**, scored on {', '.join(benchmarks)}; seeds {seeds}"]
    budgets = sorted({(r.trained["steps"], r.spec["training"]["batch"]) for r in trained})
    if budgets:
        parts.append("trained for " + " and ".join(f"{steps:,} steps of {batch} patches" for steps, batch in budgets))
    costs = [record.cost for record in records if record.cost]
    if costs and experiment.baseline:
        macs = " or ".join(dict.fromkeys(f"{cost['macs'] / 1e6:.4g}" for cost in costs))
        overhead = max(cost["overhead"] for cost in costs) / 1e6
        parts.append(f"{macs} M multiply-accumulates of convolutions per input pixel")
        if overhead:
            parts[-1] += f", and up to {overhead:.2g} M for gates and mixing"
    sentences = ["; ".join(parts) + "."]
    if not experiment.baseline:
        sentences.append("Numbers in parentheses: measured - printed, where the printed digits differ.")
        sentences.append("MACs are the multiply-accumulates of convolutions per input pixel, gates and mixing apart.")
    if experiment.printed_on and benchmarks != [experiment.printed_on]:
        sentences.append(
            f"Measured on other images than the printed numbers ({experiment.printed_on}), by smaller networks: "
            "compare the gains, not the levels."
        )
    lines = [line for axis in experiment.lines(protocol) for line in axis]
    sentences += experiment.notes
    sentences += [f"{line.label}: {line.note}" for line in lines if line.note]
    return " ".join(sentences) + _conventions(experiment, cells)


def _conventions(experiment: Experiment, cells: list[Cell]) -> str:
    """Which columns were scored how, as their records spell it out."""
    if experiment.baseline:  # its caption says how
        return ""
    columns: dict[str, dict[str, None]] = {}
    for cell in cells:
        if is_scored(cell.record):
            said = score_of(experiment, cell.record).convention.in_words(cell.record.spec["task"].get("scale"))
            columns.setdefault(said, {})[cell.column] = None
    return "\n\n" * bool(columns) + "\n".join(f"- {', '.join(labels)}: {said}" for said, labels in columns.items())


def _claims(experiment: Experiment, cells: list[Cell], protocol: str) -> str:
    """A verdict on each claim: a line for each column, of the step that decides there."""
    shown = {row.label for row in experiment.lines(protocol)[0]}
    claims = [claim for claim in experiment.claims if set(claim.order) <= shown]
    if not claims:
        return ""
    columns: dict[str, dict[str, Scores]] = {}
    for cell in cells:
        scores = columns.setdefault(cell.column, {}).setdefault(cell.row, {})
        if is_scored(cell.record):
            images = score_of(experiment, cell.record).images
            scores[cell.seed] = {name: score["psnr"] for name, score in images.items()}
    lost = Counter((c.column, c.row) for c in cells if c.record is not None and not is_scored(c.record))
    lines = []
    for claim in claims:
        judged = judge(claim, columns)
        verdict = overall(finding for findings in judged.values() for finding in findings)
        for i, (column, findings) in enumerate(judged.items()):
            step, own = weakest(findings), overall(findings)
            effect = "" if step.effect is None else f"{step.effect:+.3f}"
            effect += "" if step.spread is None else f" ± {step.spread:.3f}"
            risks = [_risk(p) for p in (step.p_images, step.p_seeds)]
            why = [step.why] if step.why else []
            why += [f"{lost[column, row]} of {row} diverged" for row in claim.order if lost[column, row]]
            said = ": ".join([own, ", ".join(why)] if why else [own])
            lines.append([f"**{verdict}**: {claim.says}" * (i == 0), column, f"{step.high} - {step.low}"])
            lines[-1] += [effect, f"{claim.margin:+g}" if claim.margin else "0", *risks, said]
    head = ["The paper's claim", "on", "decided by", "effect [dB]", "above", "p images", "p seeds", "verdict"]
    table = tabulate(
        lines, head, tablefmt="pipe", colalign=["left"] * 3 + ["right"] * 4 + ["left"], disable_numparse=True
    )
    return f"{table}\n\n{RULE}"


def _risk(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _csv(experiment: Experiment, values: list[Value], protocol: str) -> str:
    """One line for each place and metric, with every digit."""
    import pandas as pd

    lines = [
        {
            "table": experiment.name,
            "protocol": protocol,
            "row": value.row,
            "column": value.column,
            "metric": METRICS[metric],
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
