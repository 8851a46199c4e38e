"""The report as data: for each protocol its tables, the sources of their numbers, and what is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nsr_cli.report.claims import FAILS, HOLDS, UNDECIDED, Finding, weakest
from nsr_cli.report.experiments import Experiment
from nsr_cli.report.sheet import Place, Sheet, sheet_of
from nsr_cli.report.study import Shown, Study
from nsr_cli.report.values import Cell, is_scored, score_of
from nsr_cli.report.verdicts import Verdict
from nsr_cli.runs.record import Damaged, Record, read_record
from nsr_cli.runs.stored import Store
from nsr_cli.words import clock, plural

VERSIONS = ("python", "torch", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Source:
    """The source of a number in a table.

    Attributes:
        row, column: the place of the number.
        scores: as measured, in words.
        file: of the record, relative to the results.
        command: makes the record.
    """

    row: str
    column: str
    scores: str
    file: str
    command: str
    record: Record

    @property
    def budget(self) -> str:
        trained = self.record.trained
        if not trained:
            return "no training here"
        return f"{trained['steps']:,.0f} steps in {clock(trained['seconds'])}"

    @property
    def machine(self) -> str:
        made = self.record.made
        threads = f", {plural(made['threads'], 'thread')}" if "threads" in made else ""
        return f"{made.get('device', 'not recorded')}{threads}"

    @property
    def versions(self) -> str:
        made = self.record.made
        return ", ".join(f"{name.partition('-')[0]} {made[name]}" for name in VERSIONS if name in made)

    @property
    def code(self) -> str:
        made = self.record.made
        return ", ".join(str(made[key]) for key in ("commit", "code") if made.get(key)) or "not recorded"

    @property
    def seed(self) -> str:
        return "" if self.record.seed is None else str(self.record.seed)

    @property
    def line(self) -> str:
        """All of this in one line, for a tooltip."""
        seed = f"seed {self.seed}: " if self.seed else ""
        of = f"{self.record.made.get('date', '')}, commit {self.code}, {self.machine}"
        return f"{seed}{self.scores}; {self.file}; {self.budget}; {of}"


@dataclass(frozen=True)
class Summary:
    """The summary of a verdict.

    Attributes:
        says: the claim in words.
        word: holds, fails, undecided, or not measured.
        counts: how many steps hold, fail and are undecided, in words.
        where: the column of the deciding finding.
        finding: the deciding one, of the weakest step in all columns; None where none is measured.
    """

    says: str
    word: str
    counts: str
    where: str
    finding: Finding | None


@dataclass(frozen=True)
class Section:
    """A table in a chapter.

    Attributes:
        cells: (number of cells with a record, number of cells).
        left_out: seeds that are not shown, though they have records.
        missing: commands that make the other cells.
        absent: benchmarks that are not on this machine, and how to get them.
    """

    sheet: Sheet
    sources: list[Source]
    cells: tuple[int, int]
    seeds: list[int]
    left_out: list[int]
    missing: list[str]
    absent: list[str]

    @property
    def command(self) -> str:
        return table_command(self.sheet.experiment, self.sheet.protocol)

    @property
    def anchor(self) -> str:
        return f"{self.sheet.protocol}-{self.sheet.experiment.name}"

    @cached_property
    def _by_place(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for number, source in enumerate(self.sources):
            found.setdefault((source.row, source.column), []).append(number)
        return found

    def numbers_of(self, place: Place) -> list[int]:
        """The indices of the sources that a place shows."""
        return self._by_place.get((place.value.row, place.value.column), []) if place.value else []

    def hint(self, place: Place) -> str:
        """The tooltip of a place: a command in the first line, then a line for each source."""
        own = [self.sources[number] for number in self.numbers_of(place)]
        return "\n".join([own[0].command, *(source.line for source in own)]) if own else ""


@dataclass(frozen=True)
class Unmeasured:
    """A table without measurements at the chapter's protocol.

    Attributes:
        commands: make the table.
        absent: benchmarks that are not on this machine, and how to get them.
        shown_elsewhere: whether another chapter shows its columns that need no training.
    """

    experiment: Experiment
    commands: list[str]
    absent: list[str] = field(default_factory=list)
    shown_elsewhere: bool = False


@dataclass(frozen=True)
class Chapter:
    """The tables of a protocol.

    Attributes:
        about: what the protocol is for.
        sections: tables with measurements.
        unmeasured: the other tables.
    """

    protocol: str
    about: str
    sections: list[Section] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)

    @cached_property
    def summary(self) -> list[tuple[Section, list[Summary], list[Summary]]]:
        """For each table with a measured claim: (table, the paper's measured claims, all of our claims)."""
        found = [(s, summaries_of(s.sheet.claims), summaries_of(s.sheet.own_claims)) for s in self.sections]
        return [
            (s, [v for v in paper if v.finding], own) for s, paper, own in found if any(v.finding for v in paper + own)
        ]

    @property
    def widest(self) -> float:
        """The largest effect of the summary, its deviation included, in dB."""
        shown = [v.finding for _, paper, own in self.summary for v in paper + own if v.finding]
        return max((abs(f.effect) + (f.spread or 0) for f in shown), default=0) or 1.0

    @property
    def tally(self) -> dict[str, int]:
        """How many of the paper's claims hold, fail, are undecided, and are not measured."""
        words = [verdict.word for _, paper, _ in self.summary for verdict in paper]
        every = [section.sheet.experiment for section in self.sections] + [
            table.experiment for table in self.unmeasured
        ]
        claims = sum(len(experiment.claims) for experiment in every)
        return {word: words.count(word) for word in (HOLDS, FAILS, UNDECIDED)} | {"not measured": claims - len(words)}


def summaries_of(found: Iterable[Verdict]) -> list[Summary]:
    """The summary of each verdict, with its deciding measured finding."""
    decided = []
    for verdict in found:
        placed = [(f, column) for column, findings in verdict.findings.items() for f in findings if f.effects]
        step = weakest([finding for finding, _ in placed]) if placed else None
        where = next((column for finding, column in placed if finding is step), "")
        decided.append(
            Summary(verdict.claim.says, verdict.word if step else "not measured", verdict.counts, where, step)
        )
    return decided


def table_command(experiment: Experiment, protocol: str) -> str:
    return f"nsr table {experiment.name.removeprefix('table')} protocol={protocol}"


def needs_training(experiment: Experiment, protocol: str) -> bool:
    """Whether every cell of a table needs a training."""
    return all(verb != "eval" for verb, *_ in experiment.commands(protocol))


def add_table(chapter: Chapter, study: Study, store: Store, seen: set[str]) -> None:
    """Add a table to a chapter: as a section if something of it is measured, else as unmeasured.

    Args:
        chapter: of the study's protocol.
        study: the table.
        store: collects damaged records.
        seen: names of tables whose columns without training some chapter shows; this one is added.
    """
    shown = study.shown(store=store)
    section = section_of(study, shown)
    recorded = {cell.trained for cell in shown.cells if cell.record}
    name = study.experiment.name
    if True in recorded or (recorded and name not in seen):
        chapter.sections.append(section)
        seen.add(name)
    else:
        commands = [f"{section.command} run=true", *section.missing]
        chapter.unmeasured.append(Unmeasured(study.experiment, commands, section.absent, bool(recorded)))


def add_unmeasured(chapter: Chapter, experiment: Experiment, seen: set[str]) -> None:
    """Add a table to a chapter as unmeasured, without composing its runs, for a protocol that has no records."""
    makes = [f"nsr {' '.join(words)} protocol={chapter.protocol}" for words in experiment.commands(chapter.protocol)]
    commands = [f"{table_command(experiment, chapter.protocol)} run=true", *makes]
    shown_elsewhere = experiment.name in seen and not needs_training(experiment, chapter.protocol)
    chapter.unmeasured.append(Unmeasured(experiment, commands, shown_elsewhere=shown_elsewhere))


def section_of(study: Study, shown: Shown) -> Section:
    """The section of a table."""
    sources = [source_of(study, cell) for cell in shown.cells if cell.record]
    return Section(
        sheet=sheet_of(study.experiment, shown.cells, study.protocol),
        sources=sources,
        cells=(len(sources), len(shown.cells)),
        seeds=shown.seeds,
        left_out=shown.left_out,
        missing=[f"nsr {' '.join(words)}" for words in study.missing_commands(shown.cells)],
        absent=study.absent_benchmarks(shown.cells),
    )


def source_of(study: Study, cell: Cell) -> Source:
    """The source of a cell's number."""
    run = study.runs[cell.job]
    run = run.with_seed(cell.seed) if run.trains else run
    more = [f"protocol={study.protocol}", f"seed={cell.seed}"] if run.trains else [f"benchmarks=[{cell.benchmark}]"]
    return Source(
        row=cell.row,
        column=cell.column,
        scores=scores_in_words(cell.record, study.experiment),
        file=run.record(cell.benchmark).relative_to(study.results).as_posix(),
        command=" ".join(["nsr", *cell.job, *more]),
        record=cell.record,
    )


def scores_in_words(record: Record, experiment: Experiment | None = None) -> str:
    """PSNR in dB, and SSIM where measured, in words; by the convention of the table, else the record's first."""
    if not is_scored(record):
        return f"diverged: {record.diverged}"
    means = (score_of(experiment, record) if experiment else next(iter(record.scores.values()))).means
    return f"{means['psnr']:.4f} dB" + (f", SSIM {means['ssim']:.4f}" if "ssim" in means else "")


def other_records(results: Path, used: set[str], folders: Sequence[str], damaged: dict) -> dict[str, Record]:
    """The records that no table shows, by file relative to the results; damaged files are added to ``damaged``."""
    found = {}
    for folder in folders:
        for path in sorted((results / "records" / folder).glob("*.json")):
            file = path.relative_to(results).as_posix()
            if file in used or path in damaged:
                continue
            try:
                if record := read_record(path):
                    found[file] = record
            except Damaged as damage:
                damaged[path] = str(damage)
    return found
