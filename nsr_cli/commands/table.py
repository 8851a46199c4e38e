"""nsr table: a table of the paper from the records at hand; run=true makes the missing ones first."""

import sys
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.jobs import job
from nsr_cli.commands.missing import run_missing
from nsr_cli.commands.settings import check_knobs, run_of, with_seed
from nsr_cli.data.catalog import find, locate, own_images
from nsr_cli.engine.conventions import conventions
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import write_text
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import Experiment, expand, load
from nsr_cli.report.records import read_record
from nsr_cli.report.tables import FORMATS, Cell, render


@job
def main(cfg: DictConfig) -> None:
    check_knobs(cfg)
    experiment = load(package_folder("experiments"), str(cfg.table))
    cells, failed = gather(cfg, experiment)
    if cfg.run and not failed and not any(cell.record for cell in cells):
        raise UserError(f"{experiment.name}: no cell can be made. {' '.join(what_is_missing(cfg, experiment, cells))}")
    text = render(experiment, cells, cfg.protocol.name, cfg.format)
    print(text)
    aside = sys.stdout if cfg.format == "markdown" else sys.stderr  # so that CSV can be piped
    for paragraph in what_is_missing(cfg, experiment, cells):
        print(f"{paragraph}\n", file=aside)
    if cfg.save:
        path = Path(cfg.results) / "tables" / cfg.protocol.name / f"{experiment.name}{FORMATS[cfg.format]}"
        write_text(path, text)
        print(path.resolve(), file=aside)
    if failed:
        raise Failed(f"not complete, these failed: {'; '.join(failed)}")


def what_is_missing(cfg: DictConfig, experiment: Experiment, cells: list[Cell]) -> list[str]:
    """Said under a table or a figure: the commands that make missing cells, and benchmarks that are not here."""
    said = []
    if commands := filling(cfg, experiment, cells):
        said.append(to_run(f"nsr {' '.join(words)}" for words in commands))
    lacking = {cell.benchmark for cell in cells if not cell.record}
    if absent := sorted(name for name in lacking if not at_hand(name, cfg)):
        names = ", ".join(f"{name} ({find(name).ask or f'nsr data get {name}'})" for name in absent)
        said.append(f"Not on this machine, or not whole: {names}")
    return said


def to_run(commands: Iterable[str]) -> str:
    return "\n".join(["Missing; run=true runs these:", "", *(f"    {command}" for command in commands)])


def gather(cfg: DictConfig, experiment: Experiment) -> tuple[list[Cell], list[str]]:
    """The cells of an experiment, and the command lines that failed; run=true makes the missing ones first."""
    seeds = list(dict.fromkeys(cfg.seeds))
    cells = find_cells(cfg, experiment, seeds)
    if not cfg.run or not (commands := filling(cfg, experiment, cells)):
        return cells, []
    failed = run_missing(cfg, commands)
    return find_cells(cfg, experiment, seeds), failed


def find_cells(cfg: DictConfig, experiment: Experiment, seeds: list[int]) -> list[Cell]:
    """Every cell of the table with its record, or None where that is missing."""
    composers = {verb: Composer(partial(compose, verb)) for verb in ("train", "eval", "ablate")}
    shared = [f"protocol={cfg.protocol.name}"]
    cells, known = [], {}
    for row, column, verb, overrides in experiment.slots(cfg.protocol.name):
        job = (verb, *overrides)
        if job not in known:  # the rows of a table share the jobs of its columns
            config = composers[verb]([*overrides, f"seed={seeds[0]}", *shared])
            config.results, config.data = cfg.results, cfg.data
            task, reads = OmegaConf.to_container(config.task, resolve=True), list(config.model.reads)
            run = run_of(config)
            trained = run.budget != "untrained"
            runs = {seeds[0]: run} | ({seed: with_seed(config, run, seed) for seed in seeds[1:]} if trained else {})
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
