"""nsr table: a table of the paper from the records at hand; run=true makes the missing ones first."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.jobs import job
from nsr_cli.commands.settings import check_knobs, run_of
from nsr_cli.data.catalog import find, locate, own_images
from nsr_cli.engine.conventions import conventions
from nsr_cli.errors import Failed
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
    if absent := sorted({cell.benchmark for cell in cells if not cell.record and not at_hand(cell.benchmark, cfg)}):
        names = ", ".join(f"{name} (nsr data get {name})" for name in absent)
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
    cells, runs = [], {}
    for row, column, verb, overrides in experiment.slots(cfg.protocol.name):
        for seed in seeds:
            job = (verb, *overrides)
            if (job, seed) not in runs:  # the rows of a table share the jobs of its columns
                config = composers[verb]([*overrides, f"seed={seed}", *shared])
                config.results, config.data = cfg.results, cfg.data
                task, reads = OmegaConf.to_container(config.task, resolve=True), list(config.model.reads)
                runs[job, seed] = run_of(config), list(config.benchmarks), partial(conventions, task, reads=reads)
            run, benchmarks, expected = runs[job, seed]
            if run.budget == "untrained" and seed != seeds[0]:
                continue
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
    lacking = [cell for cell in cells if cell.record is None and at_hand(cell.benchmark, cfg)]
    lines = []
    for line in experiment.commands(cfg.protocol.name):
        verb, jobs = expand(line)
        own = [cell for cell in lacking if cell.job in [(verb, *job) for job in jobs]]
        if not own:
            continue
        words = [word for word in shlex.split(line)[1:] if word != "-m"]
        if any(cell.record is None and cell.trained for cell in own):
            words += [f"protocol={cfg.protocol.name}", f"seed={_joined(cell.seed for cell in own)}"]
        lines.append([words[0], "-m", *words[1:], f"benchmarks=[{_joined(cell.benchmark for cell in own)}]"])
    return lines


def _joined(values: Iterable) -> str:
    return ",".join(dict.fromkeys(str(value) for value in values))


def run_missing(cfg: DictConfig, commands: list[list[str]]) -> list[str]:
    """Run command lines, one after the other, or with a launcher all at once. Returns those that failed."""
    launcher = HydraConfig.get().runtime.choices.get("hydra/launcher", "basic")
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"NSR_RESULTS": str(cfg.results), "NSR_DATA": str(cfg.data)}
    processes = []
    for words in commands:
        print("$ nsr " + " ".join(words), flush=True)
        launch = [f"hydra/launcher={launcher}"] if launcher != "basic" else []
        process = subprocess.Popen([sys.executable, "-m", "nsr_cli", *words, *launch], env=environment)
        processes.append((" ".join(words), process))
        if launcher == "basic":
            process.wait()
    return [words for words, process in processes if process.wait()]
