"""Make the missing runs of a table or a figure, as one sweep of command lines that a user could type."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from nsr_cli.commands.cells import cells_of
from nsr_cli.commands.composing import Composer
from nsr_cli.commands.launchers import SweepLauncher
from nsr_cli.errors import UserError
from nsr_cli.launch.cells import Cell
from nsr_cli.launch.dispatch import Dispatcher, InProcess
from nsr_cli.launch.local import OnThisMachine, usable_cores, visible_gpus
from nsr_cli.report.experiments import expand_command
from nsr_cli.runs.stored import Store
from nsr_cli.words import clock, plural, print_line


def run_missing(values: Mapping, title: str, commands: list[list[str]]) -> list[str]:
    """Run command lines, each as words after ``nsr``, as one sweep. Returns verb and overrides of each failed cell."""
    dispatcher, results = chosen_dispatcher(), Path(values["results"]).absolute()
    cells: list[Cell] = []
    for words in commands:
        verb, combinations = expand_command(words)
        composer, data = Composer(partial(compose, verb)), Path(values["data"])
        found = cells_of(verb, combinations, composer, results, dispatcher.processes, data)
        for cell, overrides in zip(found, combinations, strict=True):
            cell.words = " ".join([verb, *overrides])
        cells += found
    if cells:
        print_plan(cells)
        dispatcher.send(title, cells, results)
    return [cell.words for cell in cells if cell.failure]


def print_plan(cells: list[Cell]) -> None:
    """Print how many trainings and scores will be made, and about how long they take on this machine."""
    wanted = [cell for cell in cells if not cell.finished and not cell.failure]
    if not wanted:
        return
    from nsr_cli.runs.plan import estimate_seconds  # imports torch

    trainings = {cell.run.name: cell.run for cell in wanted if cell.run.lacks_weights}
    store = Store()
    scores = {cell.run.record(name): (cell.run, name) for cell in wanted for name in store.unscored(cell.run)}
    what = [plural(len(trainings), "training")] * bool(trainings) + [plural(len(scores), "score")]
    said = f"{' and '.join(what)} to make"
    with contextlib.suppress(Exception):  # of a run that cannot be, which says so itself
        seconds = estimate_seconds(list(trainings.values()), list(scores.values()))
        said += f": about {clock(seconds)} of one core"
    print_line(said)


def chosen_dispatcher() -> Dispatcher:
    """The dispatcher of hydra/launcher=...; without it, jobs side by side on several cores, one by one on a GPU."""
    choice = HydraConfig.get().runtime.choices["hydra/launcher"]
    if choice == "basic":
        return OnThisMachine(jobs=None, per_gpu=1) if usable_cores() > 1 and not visible_gpus() else InProcess()
    launcher = Plugins.instance()._instantiate(HydraConfig.get().launcher)
    if not isinstance(launcher, SweepLauncher):
        raise UserError(f"hydra/launcher={choice}: expected slurm, slurm_ddp or local")
    return launcher.dispatcher
