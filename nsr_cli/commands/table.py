"""nsr table: a table of the paper from the records at hand; run=true makes the missing ones first."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.jobs import job
from nsr_cli.commands.missing import run_missing
from nsr_cli.commands.settings import Run, check_knobs, run_of, with_seed
from nsr_cli.data.catalog import find, locate, own_images
from nsr_cli.engine.conventions import conventions
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import check_writable, write_text
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import Experiment, expand, load
from nsr_cli.report.records import read_record, seeds_in
from nsr_cli.report.tables import FORMATS, Cell, render


@dataclass(frozen=True)
class Gathered:
    """What a table, or a figure, shows.

    Attributes:
        cells: of these seeds.
        failed: command lines that were to make what is missing.
        name: of the file. What leaves out a seed of which all is measured is named by the seeds that it shows, so that
            it does not replace what shows that one too.
        left_out: other seeds of which there are records.
    """

    cells: list[Cell]
    seeds: list[int]
    failed: list[str]
    name: str
    left_out: list[int]


@job
def main(cfg: DictConfig) -> None:
    check_knobs(cfg)
    if cfg.run:
        check_writable("results", cfg.results)
    experiment = load(package_folder("experiments"), str(cfg.table))
    found = gather(cfg, experiment)
    missing = what_is_missing(cfg, experiment, found)
    if cfg.run and not found.failed and not any(cell.record for cell in found.cells):
        raise UserError(f"{experiment.name}: no cell can be made. {' '.join(missing)}")
    text = render(experiment, found.cells, cfg.protocol.name, cfg.format)
    print(text)
    aside = sys.stdout if cfg.format == "markdown" else sys.stderr  # so that CSV can be piped
    for paragraph in missing:
        print(f"{paragraph}\n", file=aside)
    if cfg.save:
        path = Path(cfg.results) / "tables" / cfg.protocol.name / f"{found.name}{FORMATS[cfg.format]}"
        write_text(path, text)
        print(path.resolve(), file=aside)
    if found.failed:
        raise Failed(f"not complete, these failed: {'; '.join(found.failed)}")


def what_is_missing(cfg: DictConfig, experiment: Experiment, found: Gathered) -> list[str]:
    """Said under a table or a figure: the commands that make missing cells, and benchmarks and seeds not shown."""
    said = []
    if found.left_out:
        every = ",".join(map(str, sorted({*found.seeds, *found.left_out})))
        others = ", ".join(map(str, found.left_out))
        said.append(f"Not shown, though there are records: seed {others}; seeds=[{every}] shows all")
    if commands := filling(cfg, experiment, found.cells):
        said.append(to_run(f"nsr {' '.join(words)}" for words in commands))
    lacking = {cell.benchmark for cell in found.cells if not cell.record}
    if absent := sorted(name for name in lacking if not at_hand(name, cfg)):
        names = ", ".join(f"{name} ({find(name).ask or f'nsr data get {name}'})" for name in absent)
        said.append(f"Not on this machine, or not whole: {names}")
    return said


def to_run(commands: Iterable[str]) -> str:
    return "\n".join(["Missing; run=true runs these:", "", *(f"    {command}" for command in commands)])


def gather(cfg: DictConfig, experiment: Experiment) -> Gathered:
    """The cells of an experiment; run=true makes the missing ones first."""
    jobs = jobs_of(cfg, experiment)
    found = recorded_seeds(cfg, jobs)
    seeds = list(dict.fromkeys(cfg.seeds or whole_seeds(found) or [0]))
    cells, failed = find_cells(cfg, experiment, jobs, seeds), []
    if cfg.run and (commands := filling(cfg, experiment, cells)):
        failed = run_missing(cfg, commands)
        cells, found = find_cells(cfg, experiment, jobs, seeds), recorded_seeds(cfg, jobs)
    usual = set(seeds).issuperset(whole_seeds(found))
    name = experiment.name if usual else "-".join([experiment.name, "seed", *map(str, seeds)])
    return Gathered(cells, seeds, failed, name, [seed for seed in found if seed not in seeds])


def jobs_of(cfg: DictConfig, experiment: Experiment) -> dict[tuple[str, ...], tuple[DictConfig, Run]]:
    """The config and the run of each job with seed 0; the rows of a table share the jobs of its columns."""
    composers = {verb: Composer(partial(compose, verb)) for verb in ("train", "eval", "ablate")}
    jobs = {}
    for _, _, verb, overrides in experiment.slots(cfg.protocol.name):
        if (verb, *overrides) not in jobs:
            config = composers[verb]([*overrides, "seed=0", f"protocol={cfg.protocol.name}"])
            config.results, config.data = cfg.results, cfg.data
            jobs[verb, *overrides] = config, run_of(config)
    return jobs


def recorded_seeds(cfg: DictConfig, jobs: dict[tuple[str, ...], tuple[DictConfig, Run]]) -> dict[int, bool]:
    """The seeds of which a training of these jobs has a record; and whether all have."""
    known = seeds_in(Path(cfg.results) / "records" / cfg.protocol.name)
    found = {}
    for seed in sorted(set(known.values())):
        runs = [with_seed(config, run, seed) for config, run in jobs.values() if run.budget != "untrained"]
        there = [run.scores.signature in known for run in runs]
        found |= {seed: all(there)} if any(there) else {}
    return found


def whole_seeds(found: dict[int, bool]) -> list[int]:
    return [seed for seed, whole in found.items() if whole]


def find_cells(
    cfg: DictConfig, experiment: Experiment, jobs: dict[tuple[str, ...], tuple[DictConfig, Run]], seeds: list[int]
) -> list[Cell]:
    """Every cell of the table with its record, or None where that is missing."""
    cells, known = [], {}
    for row, column, verb, overrides in experiment.slots(cfg.protocol.name):
        job = (verb, *overrides)
        if job not in known:
            config, run = jobs[job]
            task, reads = OmegaConf.to_container(config.task, resolve=True), list(config.model.reads)
            trained = run.budget != "untrained"
            runs = {seed: with_seed(config, run, seed) for seed in seeds} if trained else {seeds[0]: run}
            known[job] = runs, list(config.benchmarks), lru_cache(partial(conventions, task, reads=reads))
        runs, benchmarks, expected = known[job]
        for seed, run in runs.items():
            benchmark = row.benchmark or (column.benchmark if column else None)
            for name in [benchmark] if benchmark else benchmarks[:1] if column else benchmarks:
                label = column.label if column else name
                record = read_record(run.record(name), run.scores.signature, name, expected(name))
                cells.append(Cell(row.label, label, name, seed, record, job, run.budget != "untrained"))
    return cells


def at_hand(benchmark: str, cfg: DictConfig) -> bool:
    """Whether a whole benchmark is on this machine."""
    dataset = find(benchmark)
    folder = locate(dataset, Path(cfg.data))
    return folder is not None and (dataset.package != "" or len(own_images(dataset, folder)) == dataset.count)


def filling(cfg: DictConfig, experiment: Experiment, cells: list[Cell]) -> list[list[str]]:
    """The command lines (as words behind `nsr`) that make the missing cells, on the benchmarks at hand."""
    here = {name for name in {cell.benchmark for cell in cells} if at_hand(name, cfg)}
    lacking = [cell for cell in cells if cell.record is None and cell.benchmark in here]
    lines = []
    for command in experiment.commands(cfg.protocol.name):
        verb, jobs = expand(command)
        made = {(verb, *job) for job in jobs}
        own = [cell for cell in lacking if cell.job in made]
        if not own:
            continue
        words = [word for word in command if word != "-m"]
        if any(cell.record is None and cell.trained for cell in own):
            words += [f"protocol={cfg.protocol.name}", f"seed={_joined(cell.seed for cell in own)}"]
        lines.append([words[0], "-m", *words[1:], f"benchmarks=[{_joined(cell.benchmark for cell in own)}]"])
    return lines


def _joined(values: Iterable) -> str:
    return ",".join(dict.fromkeys(str(value) for value in values))
