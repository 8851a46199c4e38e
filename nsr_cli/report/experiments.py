"""Experiments: a YAML per table, read into lines and cells; a cell is one job of a command line."""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from nsr_cli.errors import UserError
from nsr_cli.report.claims import Claim
from nsr_cli.report.typed import check_keys


class Listed:
    """A variable's value. A list prints with commas, as in a sweep, and can be indexed."""

    def __init__(self, value: object):
        self.value = value

    def __getitem__(self, index: str | int) -> object:
        return self.value[int(index)]

    def __str__(self) -> str:
        return ",".join(map(str, self.value)) if isinstance(self.value, list) else str(self.value)


@dataclass(frozen=True)
class Line:
    """A row or a column of a table.

    Attributes:
        label: its head.
        command: makes its cells; as typed, with the experiment's variables in braces. None: the other line's does.
        pick: overrides that choose this line's job among the jobs of a command on the other axis.
        benchmark: the data set of its cells; None: the protocol's.
        protocols: the protocols whose tables show the line; None: all.
        printed: the paper's "PSNR" or "PSNR SSIM", by the label of the other line, or by benchmark without columns.
        flops: the paper's number as printed, in millions per pixel.
        flops_per: "input" or "output" pixel, as the paper counts for this method.
        parameters: the paper's number as printed, in millions.
        control: whether it is ours, and not in the paper.
        note: a remark for below the table.
    """

    label: str
    command: str | None = None
    pick: str = ""
    benchmark: str | None = None
    protocols: tuple[str, ...] | None = None
    printed: dict[str, str | float] = field(default_factory=dict)
    flops: str | float = ""
    flops_per: str = "input"
    parameters: str | float = ""
    control: bool = False
    note: str = ""


@dataclass(frozen=True)
class Experiment:
    """A table of the paper.

    Attributes:
        rows, columns: its lines; no columns means one for each benchmark of the protocol.
        metrics: what a cell shows: psnr, ssim, ssim8.
        score: the convention whose numbers are shown; None: a record's first, which is the table's.
        corner: head of the column of labels.
        printed_on: the benchmark of the printed numbers, where no line names it.
        baseline: label of the row that gains are measured from.
        claims: of the paper.
        own_claims: ours, on the rows or columns that are controls.
        gates: whether to show statistics of gates.
        variables: values by name, then by protocol; commands name them in braces.
        notes: remarks for below the table.
    """

    name: str
    title: str
    text: str
    rows: tuple[Line, ...]
    corner: str
    columns: tuple[Line, ...] = ()
    metrics: tuple[str, ...] = ("psnr",)
    score: str | None = None
    printed_on: str | None = None
    baseline: str | None = None
    claims: tuple[Claim, ...] = ()
    own_claims: tuple[Claim, ...] = ()
    gates: bool = False
    variables: dict[str, dict[str, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def is_for(self, protocol: str) -> bool:
        """Whether its variables have values at a protocol."""
        return all(protocol in by_protocol for by_protocol in self.variables.values())

    def words(self, text: str | None, protocol: str) -> list[str]:
        """The words of a command or a pick at a protocol."""
        values = {name: Listed(by_protocol[protocol]) for name, by_protocol in self.variables.items()}
        return [self._filled(word, values) for word in shlex.split(text or "")]

    def _filled(self, word: str, values: dict[str, Listed]) -> str:
        """A word with values for {name} and {name[key]}; {hr: a, lr: b} is a pair, and stays."""

        def value(found: re.Match) -> str:
            try:
                return f"{{0{found[2] or ''}}}".format(values[found[1]])
            except (LookupError, ValueError, TypeError):
                there = _listed(values) or "none"
                raise UserError(f"{self.name}: no variable '{found[0][1:-1]}' in {word}; there are: {there}") from None

        return re.sub(r"\{(\w+)(\[\w+\])?\}", value, word)

    def command_of(self, line: Line, protocol: str) -> list[str]:
        """A line's command, as words after ``nsr``; empty where it has none."""
        return self.words(line.command, protocol)[1:]

    def lines(self, protocol: str) -> tuple[list[Line], list[Line]]:
        """The rows and columns that the table of a protocol shows.

        Raises:
            UserError: the baseline is not among them; or two have the same label.
        """
        axes = (self.rows, self.columns)
        shown = tuple([one for one in axis if one.protocols is None or protocol in one.protocols] for axis in axes)
        for label, count in itertools.chain(*(Counter(one.label for one in axis).items() for axis in shown)):
            if count > 1:
                at = f"two lines are named '{label}' at protocol={protocol}"
                raise UserError(f"{self.name}: {at}; expected other labels")
        if self.baseline is not None and self.baseline not in (rows := [row.label for row in shown[0]]):
            at = f"row '{self.baseline}' (baseline) is not shown at protocol={protocol}"
            raise UserError(f"{self.name}: {at}; there are: {_listed(rows)}")
        return shown

    def commands(self, protocol: str) -> list[list[str]]:
        """The command lines that make the table, each as words after ``nsr``."""
        rows, columns = self.lines(protocol)
        return [c for line in [*rows, *columns] if (c := self.command_of(line, protocol))]

    def slots(self, protocol: str) -> Iterator[tuple[Line, Line | None, str, list[str]]]:
        """Yield (row, column, verb, overrides) for every job; column is None where columns are benchmarks."""
        rows, columns = self.lines(protocol)
        for row, column in itertools.product(rows, columns or [None]):
            own, other = (row, column) if row.command else (column, row)
            command = self.command_of(own, protocol) if own else []
            if not command:
                continue
            wanted = set(self.words(other.pick, protocol)) if other else set()
            verb, jobs = expand_command(command)
            matching = [job for job in jobs if wanted <= set(job)]
            if len(matching) != 1:
                made = f"{len(matching)} jobs of 'nsr {' '.join(command)}' have '{' '.join(sorted(wanted))}'"
                raise UserError(f"{self.name}: {made}; expected one for row '{row.label}'")
            yield row, column, verb, matching[0]


def expand_command(command: list[str]) -> tuple[str, list[list[str]]]:
    """The verb and the jobs (lists of overrides) of a command line; commas outside of brackets make a sweep."""
    verb, *words = command
    choices = []
    for word in words:
        key, _, value = word.partition("=")
        if word in ("-m", "--multirun"):
            continue
        choices.append([f"{key}={single}" for single in _choices(value)])
    return verb, [list(job) for job in itertools.product(*choices)]


def _choices(value: str) -> list[str]:
    """The parts of a value between its commas, but for those in brackets."""
    depth, parts = 0, [""]
    for letter in value:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


OTHER_READERS = ("figure5", "timing", "search", "errata")  # files of experiments/ that are no tables


def table_names(folder: Path) -> list[str]:
    """The names of the experiments that are tables of cells, the numbered ones first."""
    stems = [path.stem for path in folder.glob("*.yaml") if path.stem not in OTHER_READERS]
    return sorted(stems, key=lambda stem: (not stem.startswith("table"), stem))


def read_yaml(path: Path) -> dict:
    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load_experiment(folder: Path, name: str) -> Experiment:
    """Read an experiment: experiments/<name>.yaml, a table by its number alone, or any file that ends in .yaml.

    Raises:
        UserError: there is no such experiment, or the file does not describe one.
    """
    known, path = table_names(folder), Path(name)
    if path.suffix != ".yaml":
        stem = f"table{name}" if name.isdigit() else name
        if stem not in known:
            there = ", ".join(n.removeprefix("table") for n in known)
            raise UserError(f"no table '{name}'; there are: {there}, or a file of your own, as in ./mine.yaml")
        path = folder / f"{stem}.yaml"
    elif not path.is_file():
        raise UserError(f"{name}: no such file; expected a table, as those in {folder}")
    elif path.stem in known and path.resolve().parent != folder.resolve():
        raise UserError(
            f"{name}: {path.stem} is a table of nsr, whose file this one would replace; give it another name"
        )
    try:
        return experiment_of(path.stem, read_yaml(path))
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(str(error).split()).replace("__init__() ", "")
        raise UserError(f"{path}: describes no table ({what}); expected what is in {folder / 'table1.yaml'}") from None


def experiment_of(name: str, content: dict) -> Experiment:
    """The experiment that the content of a YAML file describes. Raises UserError for a key that is odd or missing."""
    content = {"text": "", "corner": "Method", **content}
    check_keys(name, "the table", Experiment, {"name": name, **content})
    for what, kind, lists in (("a line", Line, ("rows", "columns")), ("a claim", Claim, ("claims", "own_claims"))):
        for one in (one for key in lists for one in content.get(key, ())):
            check_keys(name, what, kind, one)
    for axis in ("rows", "columns"):
        content[axis] = tuple(Line(**line) for line in content.get(axis, ()))
    for key in ("claims", "own_claims"):
        content[key] = tuple(claim_of(claim) for claim in content.get(key, ()))
    experiment = Experiment(name=name, **content)
    check_labels(experiment)
    check_lines(experiment)
    return experiment


PRINTED = re.compile(r"NUMBER( 8x8)?( NUMBER)?".replace("NUMBER", r"\d*\.?\d+"))


def check_lines(experiment: Experiment) -> None:
    """Raise UserError for a command that makes no cells, or printed numbers that are none."""
    for line in (*experiment.rows, *experiment.columns):
        words = shlex.split(line.command or "nsr eval")
        if words[:1] != ["nsr"] or words[1:2] not in (["train"], ["eval"], ["ablate"]):
            at = f"command={line.command} (line '{line.label}')"
            raise UserError(f"{experiment.name}: {at}: expected nsr train, nsr eval or nsr ablate, and overrides")
        for numbers in line.printed.values():
            if not PRINTED.fullmatch(str(numbers)):
                at, good = f"printed={numbers} (line '{line.label}')", "33.66, 33.66 .9299 or 27.82 8x8 .7800"
                raise UserError(f"{experiment.name}: {at}: expected numbers as in {good}")


def check_labels(experiment: Experiment) -> None:
    """Raise UserError for a label of a claim, or a baseline, that is no row or column of the table."""
    rows, columns = ([line.label for line in axis] for axis in (experiment.rows, experiment.columns))
    if experiment.baseline is not None and experiment.baseline not in rows:
        raise UserError(f"{experiment.name}: no row '{experiment.baseline}' (baseline); there are: {_listed(rows)}")
    for claim in (*experiment.claims, *experiment.own_claims):
        for label in itertools.chain(*claim.steps):
            if label not in rows and label not in columns:
                there = _listed([*rows, *columns])
                raise UserError(
                    f"{experiment.name}: no row or column '{label}' (claim '{claim.says}'); there are: {there}"
                )
        if not (claim.labels <= {*rows} or claim.labels <= {*columns}):
            raise UserError(
                f"{experiment.name}: claim '{claim.says}' mixes rows and columns; expected labels of one kind"
            )


def _listed(labels: Iterable) -> str:
    return ", ".join(map(str, labels))


def claim_of(content: dict) -> Claim:
    pairs = tuple((low, high) for low, high in content.get("pairs", ()))
    return Claim(**{**content, "order": tuple(content.get("order", ())), "pairs": pairs})
