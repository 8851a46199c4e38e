"""A study: the runs of an experiment at a protocol, their records, and the commands that make missing ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nsr_cli.data.catalog import check_known, find_dataset, image_paths, is_folder
from nsr_cli.errors import UserError
from nsr_cli.report.experiments import Experiment, expand_command
from nsr_cli.report.values import Cell
from nsr_cli.runs.run import Run
from nsr_cli.runs.stored import Store, changed_code

Job = tuple[str, ...]  # a verb and its overrides


@dataclass(frozen=True)
class Shown:
    """The content of a table or a figure.

    Attributes:
        cells: of these seeds.
        name: of the file. A table that omits a fully measured seed is named after the seeds it shows, so that it does
            not replace the one that shows that seed too.
        left_out: other seeds that have records.
        damaged: files that are no whole records, and why.
    """

    cells: list[Cell]
    seeds: list[int]
    name: str
    left_out: list[int]
    damaged: dict[Path, str]


class Study:
    """An experiment at a protocol.

    Args:
        experiment: the table, or the figure.
        protocol: of its runs.
        runs: the run of each job with seed 0; the rows of a table share the jobs of its columns.
        data, results: the folders of data and of results.
    """

    def __init__(self, experiment: Experiment, protocol: str, runs: Mapping[Job, Run], data: Path, results: Path):
        self.experiment, self.protocol, self.runs = experiment, protocol, runs
        self.data, self.results = data, results
        self.run_of = cache(lambda job, seed: runs[job].with_seed(seed))  # its name takes long to compute

    def shown(self, seeds: list[int] | None = None, store: Store | None = None) -> Shown:
        """The cells of these seeds; without any, of all seeds that every row has, or else of seed 0.

        A shared ``store`` lists each folder once for several studies, and collects all damaged files.
        """
        store = store or Store()
        recorded = self.recorded_seeds(store)
        whole = [seed for seed, complete in recorded.items() if complete]
        seeds = list(dict.fromkeys(seeds or whole or [0]))
        cells = self.cells(seeds, store)
        name = self.experiment.name
        if not set(seeds).issuperset(whole):
            name = "-".join([name, "seed", *map(str, seeds)])
        left_out = [seed for seed in recorded if seed not in seeds]
        return Shown(cells, seeds, name, left_out, store.damaged)

    def recorded_seeds(self, store: Store) -> dict[int, bool]:
        """{seed: whether all trained runs have a record}, for seeds that any run has; controls do not count.

        A damaged record counts: its seed is shown, and the damage named.
        """
        known = store.seeds_in(self.results / "records" / self.protocol)
        slots = self.experiment.slots(self.protocol)
        jobs = {(verb, *job) for row, column, verb, job in slots if not (row.control or (column and column.control))}
        trained = [job for job, run in self.runs.items() if run.trains and job in jobs]
        found = {}
        for seed in sorted(set(known.values())):
            runs = [self.run_of(job, seed) for job in trained]
            there = [run.spec.signature in known or has_record_file(run) for run in runs]
            found |= {seed: all(there)} if any(there) else {}
        return found

    def cells(self, seeds: list[int], store: Store) -> list[Cell]:
        """Every cell of the table with its record, or None where that is missing."""
        found, known = [], {}
        for row, column, verb, overrides in self.experiment.slots(self.protocol):
            job = (verb, *overrides)
            if job not in known:
                run = self.runs[job]
                known[job] = {seed: self.run_of(job, seed) for seed in seeds} if run.trains else {seeds[0]: run}
            for seed, run in known[job].items():
                benchmarks = run.request.benchmarks
                benchmark = row.benchmark or (column.benchmark if column else None)
                named = [benchmark] if benchmark else benchmarks[:1] if column else benchmarks
                for name in named:
                    check_known(name, self.data)
                    if run.trains and name not in benchmarks:
                        continue  # a small protocol scores its networks on its own benchmarks alone
                    label, record = column.label if column else name, store.record(run, name)
                    changed = tuple(m for m in changed_code(record) if m in run.own_code) if record else ()
                    found.append(Cell(row.label, label, name, seed, record, job, run.trains, changed))
        return found

    def missing_commands(self, cells: list[Cell]) -> list[list[str]]:
        """The command lines (as words after ``nsr``) that make the missing cells, on the benchmarks at hand."""
        here = {name for name in {cell.benchmark for cell in cells} if self.is_at_hand(name)}
        lacking = [cell for cell in cells if cell.record is None and cell.benchmark in here]
        lines = []
        for command in self.experiment.commands(self.protocol):
            verb, jobs = expand_command(command)
            made = {(verb, *job) for job in jobs}
            own = [cell for cell in lacking if cell.job in made]
            if not own:
                continue
            words = [w for w in command if w != "-m" and not w.startswith(("benchmarks=", "metrics="))]
            if any(cell.trained for cell in own):
                words += [f"protocol={self.protocol}", f"seed={_comma_list(cell.seed for cell in own)}"]
            words.append(f"benchmarks=[{_comma_list(cell.benchmark for cell in own)}]")
            if more := self.unusual_metrics(own[0]):
                words.append(f"metrics=[{_comma_list(more)}]")
            lines.append([words[0], "-m", *words[1:]])
        return lines

    def unusual_metrics(self, cell: Cell) -> list[str]:
        """Metrics of the experiment by which a cell's benchmark is scored only on request."""
        run = self.runs[cell.job]
        usual = run.with_request(metrics=[]).conventions(cell.benchmark)[0].metrics
        return [metric for metric in run.request.metrics if metric not in usual]

    def remarks(self, shown: Shown) -> list[str]:
        """Remarks for below a table or a figure: other seeds, damaged files, missing commands, absent benchmarks."""
        said = []
        if shown.left_out:
            every = ",".join(map(str, sorted({*shown.seeds, *shown.left_out})))
            others = ", ".join(map(str, shown.left_out))
            said.append(f"Not shown, though there are records: seed {others}; seeds=[{every}] shows all")
        said += [f"Damaged, and so missing: {path.resolve()}: {what}" for path, what in shown.damaged.items()]
        if commands := self.missing_commands(shown.cells):
            said.append(missing_commands_text(f"nsr {' '.join(words)}" for words in commands))
        if absent := self.absent_benchmarks(shown.cells):
            said.append(f"Not on this machine, or not whole: {', '.join(absent)}")
        return said

    def absent_benchmarks(self, cells: list[Cell]) -> list[str]:
        """The benchmarks of missing cells that are not on this machine, each with how to get it."""
        lacking = {cell.benchmark for cell in cells if not cell.record}
        return [self.how_to_get(name) for name in sorted(lacking) if not self.is_at_hand(name)]

    def is_at_hand(self, benchmark: str) -> bool:
        """Whether a whole benchmark is on this machine."""
        check_known(benchmark, self.data)
        try:
            return bool(image_paths(benchmark, self.data))
        except UserError:
            return False

    def how_to_get(self, benchmark: str) -> str:
        """The name of a benchmark, with the command that fetches it."""
        if is_folder(benchmark):
            return benchmark
        return f"{benchmark} ({find_dataset(benchmark, self.data).ask or f'nsr data get {benchmark}'})"


def has_record_file(run: Run) -> bool:
    """Whether there is a file of a record of a run, whole or damaged."""
    return any(run.record(benchmark).exists() for benchmark in run.request.benchmarks)


def missing_commands_text(commands: Iterable[str]) -> str:
    """A paragraph that lists the commands that run=true runs."""
    return "\n".join(["Missing; run=true runs these:", "", *(f"    {command}" for command in commands)])


def _comma_list(values: Iterable) -> str:
    return ",".join(dict.fromkeys(str(value) for value in values))
