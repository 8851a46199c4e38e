"""A table as data: what each place shows, measured over seeds beside printed."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, stdev

from nsr_cli.errors import UserError
from nsr_cli.report.experiments import Experiment, Line
from nsr_cli.runs.record import Record, Score

METRICS = {"psnr": "PSNR", "ssim": "SSIM", "ssim8": "SSIM 8x8"}


@dataclass(frozen=True)
class Cell:
    """One job of one seed, scored on one benchmark.

    Attributes:
        row, column: labels; a column of a table without columns is its benchmark.
        record: None where it is missing.
        job: the verb and the overrides that make it.
        trained: whether the job is a training.
        changed: modules of the user's own that have changed since the record was made.
    """

    row: str
    column: str
    benchmark: str
    seed: int
    record: Record | None
    job: tuple[str, ...] = ()
    trained: bool = True
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """What one place of a table shows: numbers over seeds beside the printed ones, by metric."""

    row: str
    column: str
    measured: dict[str, dict[int, float]]  # by metric, then by seed
    printed: dict[str, str]  # as printed: their digits decide how many are shown
    seeds: int  # number of seeds asked for; 0 where there is no command
    diverged: int  # how many of these diverged
    trained: bool = True  # else its one score stands for every seed
    images: frozenset[str] = frozenset()  # that it was scored on

    def shown(self, metric: str, psnr_digits: int = 2) -> str:
        """Mean over seeds with the paper's digits (PSNR 2, SSIM 4), the deviation, and a note on missing seeds."""
        numbers = list(self.measured.get(metric, {}).values())
        if not numbers:
            return "diverged" if self.diverged else "missing" if self.seeds else ""
        digits = psnr_digits if metric == "psnr" else 4
        spread = f" ± {stdev(numbers):.{max(digits, 3)}f}" if len(set(numbers)) > 1 else ""
        lost = f", {self.diverged} diverged" if self.diverged else ""
        note = f" ({len(numbers)} of {self.seeds} seeds{lost})" if len(numbers) < self.seeds else ""
        return shortened(mean(numbers), digits) + spread + note

    def mean(self, metric: str) -> float | None:
        """The mean over seeds; None where nothing is measured."""
        return mean(self.measured[metric].values()) if self.measured.get(metric) else None

    def difference(self, metric: str) -> float | None:
        """Measured - printed; None where one of them is missing."""
        printed = self.printed.get(metric)
        return self.mean(metric) - float(printed) if self.measured.get(metric) and printed else None

    def gain(self, base: "Value") -> float | None:
        """Mean difference in PSNR from another row, over the seeds of both.

        None where there are none, or where the rows were scored on different images.
        """
        if self.images != base.images:
            return None
        seeds = self.measured.get("psnr", {}).keys() | base.measured.get("psnr", {}).keys()
        own, other = (value.psnr_by_seed(seeds) for value in (self, base))
        both = own.keys() & other.keys()
        return mean(own[seed] - other[seed] for seed in both) if both else None

    def psnr_by_seed(self, seeds: Iterable[int]) -> dict[int, float]:
        """PSNR by seed; without training, it is repeated for each of ``seeds``."""
        psnr = self.measured.get("psnr", {})
        return psnr if self.trained else {seed: mean(psnr.values()) for seed in seeds if psnr}


def shortened(number: float, digits: int) -> str:
    """A number with ``digits`` decimals; SSIM (4 digits) without its leading zero, as papers print it."""
    text = f"{number:.{digits}f}"
    return text.removeprefix("0") if digits == 4 else text


def values_of(experiment: Experiment, cells: list[Cell], protocol: str) -> list[Value]:
    """The values of all places of the table, row by row."""
    rows, columns = experiment.lines(protocol)
    labels = [column.label for column in columns] or list(dict.fromkeys(cell.column for cell in cells))
    lines = {line.label: line for line in columns}
    values = []
    for row in rows:
        for label in labels:
            own = [cell for cell in cells if (cell.row, cell.column) == (row.label, label)]
            scores = {cell.seed: score_of(experiment, cell.record) for cell in own if is_scored(cell.record)}
            measured = {m: {seed: s.means[m] for seed, s in scores.items() if m in s.means} for m in experiment.metrics}
            printed = printed_at(row, lines.get(label), label)
            diverged = sum(cell.record is not None for cell in own) - len(scores)
            trained = any(cell.trained for cell in own)
            images = frozenset(name for score in scores.values() for name in score.images)
            values.append(Value(row.label, label, measured, printed, len(own), diverged, trained, images))
    return values


def is_scored(record: Record | None) -> bool:
    """Whether a record exists and has scores; the record of a diverged run has none."""
    return record is not None and record.diverged is None


def score_of(experiment: Experiment, record: Record) -> Score:
    """The scores that a cell shows: by the experiment's convention, else by the record's first.

    Raises:
        UserError: the record has no scores by that convention.
    """
    name = experiment.score or next(iter(record.scores))
    if name not in record.scores:
        there = ", ".join(record.scores)
        raise UserError(f"{experiment.name}: score={name}: {record.run} on {record.benchmark} is scored by {there}")
    return record.scores[name]


def printed_at(row: Line, column: Line | None, label: str) -> dict[str, str]:
    """The paper's numbers at a place, by metric; "33.66 .9299" is PSNR and SSIM, "27.82 8x8 .7800" the 8x8 one."""
    numbers = row.printed.get(label) or (column.printed.get(row.label) if column else None)
    if not numbers:
        return {}
    psnr, *similarity = str(numbers).split()
    metric = "ssim8" if similarity[:1] == ["8x8"] else "ssim"
    return {"psnr": psnr, **({metric: similarity[-1]} if similarity else {})}
