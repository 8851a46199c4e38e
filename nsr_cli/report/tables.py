"""Tables: a function of an experiment and its records, as Markdown, CSV or LaTeX."""

from collections.abc import Sequence
from statistics import fmean, stdev

from tabulate import tabulate

from nsr_cli.report.claims import ALPHA, ENOUGH_SEEDS, weakest
from nsr_cli.report.experiments import Experiment, Line
from nsr_cli.report.values import METRICS, Cell, Value, is_scored, score_of, values_of
from nsr_cli.report.verdicts import Verdict, verdicts
from nsr_cli.runs.spec import chooses

RULE = (
    f"A claim holds when two one-sided t-tests, paired by image and paired by seed, say so at {ALPHA} in every column; "
    f"it fails when both say the opposite in one, at {ALPHA} over the number of comparisons. It takes {ENOUGH_SEEDS} "
    "seeds. Effects and gains are means over the seeds that both rows have, with their standard deviation."
)
FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}
FEW = 4  # columns that a claim is shown in, a line each; of more, the one that decides


def render(experiment: Experiment, cells: list[Cell], protocol: str, form: str = "markdown", said: bool = True) -> str:
    """The table in one of FORMATS; without ``said``, the numbers of the paper's rows alone."""
    values = values_of(experiment, cells, protocol)
    if form == "csv":
        return _csv(experiment, values, protocol)
    rows, columns = experiment.lines(protocol)
    controls = [row for row in rows if row.control]
    head, body = _table(experiment, values, cells, protocol, [row for row in rows if not row.control])
    if not said:
        return f"## {experiment.title}\n\n{_drawn(head, body)}\n"
    caption = _caption(experiment, cells, protocol)
    if form == "latex":
        remarks = "\n".join(f"% {line}" for line in caption.replace("**", "").splitlines())
        table = _drawn(head, body, "latex_booktabs")
        if controls:
            own = _table(experiment, values, cells, protocol, controls)
            table += "\n% controls, not in the paper\n" + _drawn(*own, "latex_booktabs")
        return f"% {experiment.title}\n{table}\n{remarks}\n"
    paper = _claims("The paper's claim", verdicts(experiment, experiment.claims, cells, protocol))
    parts = [f"## {experiment.title}", _drawn(head, body), caption, paper]
    if controls:
        own = _claims("Our question", verdicts(experiment, experiment.own_claims, cells, protocol))
        explained = (
            "Uniform: k kernels with equal weights and no gate. Static: k learned weights, the same for every input. "
            "After training both are one plain convolution."
        )
        table = _drawn(*_table(experiment, values, cells, protocol, controls))
        parts += ["### Controls, not in the paper", table, explained, own]
    if experiment.gates:
        parts.append(_gates(rows, cells))
    if experiment.claims or experiment.own_claims:
        parts.append(RULE)
    return "\n\n".join(part for part in parts if part) + "\n"


def _drawn(head: list[str], body: list[list[str]], style: str = "pipe") -> str:
    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(body, head, tablefmt=style, colalign=align, disable_numparse=True)


def _table(
    experiment: Experiment, values: list[Value], cells: list[Cell], protocol: str, rows: list[Line]
) -> tuple[list[str], list[list[str]]]:
    """Head and body of some of the rows."""
    if experiment.baseline:
        return _gains(experiment, values, rows)
    return _grid(experiment, values, cells, rows, experiment.lines(protocol)[1])


def _gains(experiment: Experiment, values: list[Value], rows: list[Line]) -> tuple[list[str], list[list[str]]]:
    """Rows against a baseline: measured, gain, printed, difference; three digits, as the gains are small."""
    columns = list(dict.fromkeys(value.column for value in values))
    head = [experiment.corner]
    for column in columns:
        head += [f"PSNR {column}", f"over {experiment.baseline}"]
    comparable = columns == [experiment.printed_on]
    printed_rows = bool(experiment.printed_on) and not all(row.control for row in rows)
    head += [f"printed ({experiment.printed_on})", *["measured - printed"] * comparable] * printed_rows
    at = {(value.row, value.column): value for value in values}
    body = []
    for row in rows:
        line = [row.label]
        for column in columns:
            value = at[row.label, column]
            gain = value.gain(at[experiment.baseline, column]) if row.label != experiment.baseline else None
            line += [value.shown("psnr", 3), "" if gain is None else f"{gain:+.3f}"]
        printed = row.printed.get(experiment.printed_on)
        own = at[row.label, columns[0]].mean("psnr") if columns else None
        off = f"{own - float(printed):+.3f}" if printed and own else ""
        body.append([*line, *[printed or "not printed", *[off] * comparable] * printed_rows])
    return head, body


def _grid(
    experiment: Experiment, values: list[Value], cells: list[Cell], rows: list[Line], columns: list[Line]
) -> tuple[list[str], list[list[str]]]:
    """Methods side by side: for each, measured (with its difference where the printed digits differ) and printed.

    An ablation (whose printed numbers are of one benchmark) has a third digit, for its differences are small.
    """
    digits = 3 if experiment.printed_on else 2
    comparable = not experiment.printed_on or all(cell.benchmark == experiment.printed_on for cell in cells)
    columns = columns or [Line(label) for label in dict.fromkeys(value.column for value in values)]  # benchmarks
    with_printed = not all(row.control for row in rows)
    head = [experiment.corner]
    for column in columns:
        head += [column.label, *["printed"] * with_printed]
    body = []
    if with_printed and any(column.flops for column in columns):
        body.append(["M MACs per pixel", *(text for column in columns for text in _flops(column, cells))])
    if with_printed and any(column.parameters for column in columns):
        body.append(["M parameters", *(text for column in columns for text in _parameters(column, cells))])
    at = {(value.row, value.column): value for value in values}
    for row in rows:
        line = [row.label]
        for column in columns:
            value = at[row.label, column.label]
            has = [metric for metric in experiment.metrics if value.measured[metric]]
            measured = " / ".join(value.shown(metric, digits) for metric in has) or value.shown("psnr")
            line += [measured + (_off(value) if comparable else "")]
            line += [" / ".join(value.printed.values())] * with_printed
        body.append(line)
    return head, body


def _parameters(column: Line, cells: list[Cell]) -> tuple[str, str]:
    """(counted, printed) parameters of a column's first method, in millions."""
    counted = (c.record.cost["parameters"] for c in cells if c.column == column.label and c.record and c.record.cost)
    return next((f"{count / 1e6:.2g}" for count in counted), ""), column.parameters


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


def _caption(experiment: Experiment, cells: list[Cell], protocol: str) -> str:
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


def _claims(title: str, found: Sequence[Verdict]) -> str:
    """A verdict on each claim: a line for each column, of the step that decides there."""
    lines = []
    for verdict in found:
        counts = f" ({verdict.counts})" if verdict.counts else ""
        said = f"**{verdict.word}**: {verdict.claim.says}{counts}"
        for i, (column, findings) in enumerate(_deciding(verdict).items()):
            step = weakest(findings)
            effect = "" if step.effect is None else f"{step.effect:+.3f}"
            effect += "" if step.spread is None else f" ± {step.spread:.3f}"
            risks = [_risk(p) for p in (step.p_images, step.p_seeds)]
            lost = {label: verdict.diverged[column, label] for label in (step.low, step.high)}
            why = [step.why] if step.why else []
            why += [f"{number} of {label} diverged" for label, number in lost.items() if number]
            end = ": ".join([step.verdict, ", ".join(why)] if why else [step.verdict])
            lines.append([said * (i == 0), column, f"{step.high} - {step.low}"])
            lines[-1] += [effect, f"{verdict.claim.margin:+g}" if verdict.claim.margin else "0", *risks, end]
    if not lines:
        return ""
    head = [title, "on", "decided by", "effect [dB]", "above", "p images", "p seeds", "verdict"]
    align = ["left"] * 3 + ["right"] * 4 + ["left"]
    return tabulate(lines, head, tablefmt="pipe", colalign=align, disable_numparse=True)


def _deciding(verdict: Verdict) -> dict:
    """The findings that are shown: of all columns, or where they are many of the one that decides."""
    if len(verdict.findings) <= FEW:
        return verdict.findings
    every = weakest([finding for findings in verdict.findings.values() for finding in findings])
    return {column: [every] for column, findings in verdict.findings.items() if any(f is every for f in findings)}


def _gates(rows: Sequence[Line], cells: list[Cell]) -> str:
    """What the gates do: the mean over layers and seeds of the groups in use and of adaptivity, in each column."""
    columns = list(dict.fromkeys(cell.column for cell in cells))
    body = []
    for row in rows:
        line = [row.label]
        for column in columns:
            own = [c.record for c in cells if (c.row, c.column) == (row.label, column) and is_scored(c.record)]
            gated = [record for record in own if chooses(record.spec["sparsity"])]
            layers = [layer for record in gated for layer in (record.gates or {}).values()]
            if layers:
                groups, bits = (fmean(layer[key] for layer in layers) for key in ("groups", "adaptivity"))
                line.append(f"{groups:.2f} of {gated[0].spec['sparsity']['groups']}, {bits:.3f} bits")
            else:
                line.append("not measured" if gated else "")
        if any(line[1:]):
            body.append(line)
    if not body:
        return ""
    said = (
        "Effective number of groups (the exponential of the weights' mean entropy), and adaptivity: the mutual "
        "information between tile and group. Near k groups and near 0 bits, a gate does what uniform weights do."
    )
    return f"### What the gates do\n\n{_drawn(['', *columns], body)}\n\n{said}"


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
