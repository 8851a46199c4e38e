"""A table as data: grids of places, captions and verdicts. tables.py and page.py render it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nsr_cli.report.experiments import Experiment, Line
from nsr_cli.report.values import Cell, Value, is_scored, score_of, values_of
from nsr_cli.report.verdicts import Verdict, verdicts
from nsr_cli.runs.record import Record
from nsr_cli.runs.spec import is_adaptive


@dataclass(frozen=True)
class Place:
    """One place of a grid.

    Attributes:
        text: the text to show.
        difference: measured - printed, shown after the text; empty where the printed digits agree.
        number: a difference or gain in dB, whose sign a colour may show; for a printed PSNR the printed gain.
        value: the measured numbers behind the text.
    """

    text: str
    difference: str = ""
    number: float | None = None
    value: Value | None = None

    def __str__(self) -> str:
        return self.text + self.difference


@dataclass(frozen=True)
class Grid:
    """Heads of the columns, and rows of places; the first place of a row is its label."""

    head: list[str]
    rows: list[list[Place]]


@dataclass(frozen=True)
class Sheet:
    """A table at a protocol.

    Attributes:
        paper, controls: the grids of the paper's rows and columns, and of our controls.
        caption: of both grids.
        conventions: the columns scored by each convention, by the convention in words.
        claims, own_claims: verdicts on the paper's claims, and on our questions.
        gates: statistics of gates; None where no network has gates.
    """

    experiment: Experiment
    protocol: str
    paper: Grid
    controls: Grid | None
    caption: str
    conventions: dict[str, list[str]]
    claims: list[Verdict]
    own_claims: list[Verdict]
    gates: Grid | None


def sheet_of(experiment: Experiment, cells: list[Cell], protocol: str) -> Sheet:
    """The table of an experiment's cells."""
    rows, columns = experiment.lines(protocol)
    values = values_of(experiment, cells, protocol)
    (of_paper, own_rows), (columns_of_paper, own_columns) = map(_split_by_origin, (rows, columns))
    controls = own_rows + own_columns

    def grid(shown: list[Line], beside: list[Line], with_printed: bool) -> Grid:
        if experiment.baseline:
            return _gains(experiment, values, shown)
        return _side_by_side(experiment, values, cells, shown, beside, with_printed)

    return Sheet(
        experiment,
        protocol,
        paper=grid(of_paper, columns_of_paper, with_printed=True),
        controls=grid(own_rows or rows, own_columns or columns, with_printed=False) if controls else None,
        caption=_caption(experiment, cells, protocol),
        conventions=_conventions(experiment, cells),
        claims=verdicts(experiment, experiment.claims, cells, protocol),
        own_claims=verdicts(experiment, experiment.own_claims, cells, protocol) if controls else [],
        gates=_gates_grid(rows, cells) if experiment.gates else None,
    )


def _split_by_origin(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """The lines of the paper, and our controls."""
    return [line for line in lines if not line.control], [line for line in lines if line.control]


def _gains(experiment: Experiment, values: list[Value], rows: list[Line]) -> Grid:
    """Rows against a baseline: measured, gain, printed, difference; three digits, as the gains are small."""
    columns = list(dict.fromkeys(value.column for value in values))
    head = [experiment.corner]
    for column in columns:
        head += [f"PSNR {column}", f"over {experiment.baseline}"]
    comparable = columns == [experiment.printed_on]
    printed_rows = bool(experiment.printed_on) and not all(row.control for row in rows)
    head += [f"printed ({experiment.printed_on})", *["measured - printed"] * comparable] * printed_rows
    at = {(value.row, value.column): value for value in values}
    base = next(row for row in experiment.rows if row.label == experiment.baseline).printed.get(experiment.printed_on)
    body = []
    for row in rows:
        line = [Place(row.label)]
        for column in columns:
            value = at[row.label, column]
            gain = value.gain(at[experiment.baseline, column]) if row.label != experiment.baseline else None
            line += [Place(value.shown("psnr", 3), value=value)]
            line += [Place("" if gain is None else f"{gain:+.3f}", number=gain)]
        printed = row.printed.get(experiment.printed_on)
        own = at[row.label, columns[0]].mean("psnr") if columns else None
        off = own - float(printed) if printed and own else None
        gain = float(printed) - float(base) if printed and base and row.label != experiment.baseline else None
        last = [Place(printed or "not printed", number=gain)]
        last += [Place("" if off is None else f"{off:+.3f}", number=off)] * comparable
        body.append(line + last * printed_rows)
    return Grid(head, body)


def _side_by_side(
    experiment: Experiment,
    values: list[Value],
    cells: list[Cell],
    rows: list[Line],
    columns: list[Line],
    with_printed: bool,
) -> Grid:
    """Methods side by side: for each, measured (with its difference where the printed digits differ) and printed.

    An ablation (whose printed numbers are of one benchmark) has a third digit, for its differences are small.
    """
    digits = 3 if experiment.printed_on else 2
    comparable = _is_comparable(experiment, cells)
    columns = columns or [Line(label) for label in dict.fromkeys(value.column for value in values)]  # benchmarks
    head = [experiment.corner]
    for column in columns:
        head += [column.label, *["printed"] * with_printed]
    body = []
    if with_printed and any(column.flops for column in columns):
        costs = [text for column in columns for text in _flops(column, cells)]
        body.append([Place(text) for text in ("M MACs per pixel", *costs)])
    if with_printed and any(column.parameters for column in columns):
        costs = [text for column in columns for text in _parameters(column, cells)]
        body.append([Place(text) for text in ("M parameters", *costs)])
    at = {(value.row, value.column): value for value in values}
    for row in rows:
        line = [Place(row.label)]
        for column in columns:
            value = at[row.label, column.label]
            has = [metric for metric in experiment.metrics if value.measured[metric]]
            measured = " / ".join(value.shown(metric, digits) for metric in has) or value.shown("psnr")
            off = _differences_text(value) if comparable else ""
            line.append(Place(measured, off, value.difference("psnr") if off else None, value))
            line += [Place(" / ".join(value.printed.values()))] * with_printed
        body.append(line)
    return Grid(head, body)


def _is_comparable(experiment: Experiment, cells: list[Cell]) -> bool:
    """Whether all cells were measured on the images of the printed numbers."""
    return not experiment.printed_on or all(cell.benchmark == experiment.printed_on for cell in cells)


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


def _differences_text(value: Value) -> str:
    """The differences from the printed numbers, in parentheses, where they show in the printed digits."""
    off = []
    for metric, printed in value.printed.items():
        difference, digits = value.difference(metric), len(printed.partition(".")[2])
        if difference is not None and f"{value.mean(metric):.{digits}f}" != f"{float(printed):.{digits}f}":
            off.append(f"{difference:+.{digits}f}")
    return f" ({', '.join(off)})" if off else ""


def _caption(experiment: Experiment, cells: list[Cell], protocol: str) -> str:
    """The caption of a table, in sentences."""
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
        if _is_comparable(experiment, cells):
            sentences.append("Numbers in parentheses: measured - printed, where the printed digits differ.")
        sentences.append("MACs are the multiply-accumulates of convolutions per input pixel, gates and mixing apart.")
    if not _is_comparable(experiment, cells):
        sentences.append(
            f"Measured on other images than the printed numbers ({experiment.printed_on}), by smaller networks: "
            "compare the gains, not the levels."
        )
    lines = [line for axis in experiment.lines(protocol) for line in axis]
    sentences += experiment.notes
    sentences += [f"{line.label}: {line.note}" for line in lines if line.note]
    return " ".join([*sentences, *changed_code_notes(experiment, cells)])


def changed_code_notes(experiment: Experiment, cells: list[Cell]) -> list[str]:
    """A sentence for each module of the user's own that has changed since scores of the table were made."""
    commanded = {row.label for row in experiment.rows if row.command}
    labels: dict[str, list[str]] = {}
    for cell in cells:
        for module in cell.changed:
            labels.setdefault(module, []).append(cell.row if cell.row in commanded else cell.column)
    return [f"Scores from before a change of {m}: {', '.join(dict.fromkeys(own))}." for m, own in labels.items()]


def _conventions(experiment: Experiment, cells: list[Cell]) -> dict[str, list[str]]:
    """The columns scored by each convention, by the convention in words."""
    columns: dict[str, list[str]] = {}
    if experiment.baseline:  # its caption names the convention
        return columns
    for cell in cells:
        if is_scored(cell.record):
            convention = score_of(experiment, cell.record).convention
            shown = tuple(name for name in convention.metrics if name in experiment.metrics)  # a record may hold more
            said = replace(convention, metrics=shown).in_words(cell.record.spec["task"].get("scale"))
            labels = columns.setdefault(said, [])
            labels += [cell.column] * (cell.column not in labels)
    return columns


def _gates_grid(rows: Sequence[Line], cells: list[Cell]) -> Grid | None:
    """The grid of gate statistics: means over layers and seeds of the effective groups and of the adaptivity."""
    adaptive: dict[tuple[str, str], list[Record]] = {}  # by row and column
    for cell in cells:
        if is_scored(cell.record) and is_adaptive(cell.record.spec["sparsity"]):
            adaptive.setdefault((cell.row, cell.column), []).append(cell.record)
    told = {}
    for place, gated in adaptive.items():
        layers = [layer for record in gated for layer in (record.gates or {}).values()]
        layers = [layer for layer in layers if None not in layer.values()]  # None: all weights underflowed
        if layers:
            groups, bits = (fmean(layer[key] for layer in layers) for key in ("groups", "adaptivity"))
            told[place] = f"{groups:.2f} of {gated[0].spec['sparsity']['groups']}, {bits:.3f} bits"
        else:
            told[place] = "not measured"
    labels, columns = {label for label, _ in told}, list(dict.fromkeys(column for _, column in told))
    shown = [row.label for row in rows if row.label in labels]
    body = [[Place(label), *(Place(told.get((label, column), "")) for column in columns)] for label in shown]
    return Grid(["", *columns], body) if body else None
