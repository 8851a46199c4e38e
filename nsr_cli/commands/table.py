"""nsr table: a table of the paper from the records at hand; run=true makes the missing ones first."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.settings import run_of
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import write_text
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import Experiment, load
from nsr_cli.report.records import read_record
from nsr_cli.report.tables import Cell, render


def main(cfg: DictConfig) -> None:
    experiment = load(package_folder("experiments"), str(cfg.table))
    seeds = seeds_of(cfg)
    failed = []
    if cfg.run:
        failed = run_missing(cfg, experiment, find_cells(cfg, experiment, seeds), seeds)
    text = render(experiment, find_cells(cfg, experiment, seeds), cfg.protocol.name)
    print(text)
    if cfg.save:
        path = Path(cfg.results) / "tables" / cfg.protocol.name / f"{experiment.name}.md"
        write_text(path, text)
        print(path.resolve())
    if failed:
        raise Failed(f"not complete: {len(failed)} of {len(experiment.sweeps)} sweeps failed: {'; '.join(failed)}")


def seeds_of(cfg: DictConfig) -> list[int]:
    seeds = list(cfg.seeds) if OmegaConf.is_list(cfg.seeds) else [cfg.seeds]
    if not seeds or any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise UserError(f"seeds={cfg.seeds}: expected a list of whole numbers, as in seeds=[0,1,2]")
    return seeds


def find_cells(cfg: DictConfig, experiment: Experiment, seeds: list[int]) -> list[Cell]:
    """Every cell with its record or, where that is missing, the command that makes it."""
    cells = []
    for row in experiment.rows:
        for seed in seeds:
            overrides = [*shlex.split(row.cell), f"protocol={cfg.protocol.name}", f"seed={seed}"]
            cell = compose(config_name=experiment.verb, overrides=[*overrides, f"results={cfg.results}"])
            command = " ".join(["nsr", experiment.verb, *overrides])
            run = run_of(cell)
            cells += [Cell(row.label, name, seed, read_record(run.record(name)), command) for name in cell.benchmarks]
    return cells


def run_missing(cfg: DictConfig, experiment: Experiment, cells: list[Cell], seeds: list[int]) -> list[str]:
    """Run the experiment's sweeps; what is done is skipped by the runs themselves. Returns those that failed."""
    if all(cell.record for cell in cells):
        return []
    launcher = HydraConfig.get().runtime.choices.get("hydra/launcher", "basic")
    failed = []
    for sweep in experiment.sweeps:
        command = [*shlex.split(sweep)[1:], f"protocol={cfg.protocol.name}", f"seed={','.join(map(str, seeds))}"]
        command += [f"results={cfg.results}", f"data={cfg.data}"]
        command += [f"hydra/launcher={launcher}"] if launcher != "basic" else []
        print("$ nsr " + " ".join(command), flush=True)
        paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if subprocess.run([sys.executable, "-m", "nsr_cli", *command], env=environment).returncode:
            failed.append(sweep)
    return failed
