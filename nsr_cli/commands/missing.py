"""The runs that a table or a figure lacks, made as one sweep of the command lines that a user would type."""

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
from nsr_cli.launch.dispatch import Dispatcher, InProcess
from nsr_cli.report.experiments import expand


def run_missing(values: Mapping, title: str, commands: list[list[str]]) -> list[str]:
    """Run command lines through the launcher that was chosen.

    Args:
        values: of the table's, or the figure's, config.
        title: of the sweep.
        commands: each as words behind ``nsr``.

    Returns:
        The cells that failed, as words.
    """
    dispatcher, results = chosen_dispatcher(), Path(values["results"]).absolute()
    cells = []
    for words in commands:
        verb, combinations = expand(words)
        composer, data = Composer(partial(compose, verb)), Path(values["data"])
        found = cells_of(verb, combinations, composer, results, dispatcher.processes, data)
        for cell, overrides in zip(found, combinations, strict=True):
            cell.words = " ".join([verb, *overrides])
        cells += found
    if cells:
        dispatcher.send(title, cells, results)
    return [cell.words for cell in cells if cell.failure]


def chosen_dispatcher() -> Dispatcher:
    """What hydra/launcher=... stands for."""
    choice = HydraConfig.get().runtime.choices["hydra/launcher"]
    if choice == "basic":
        return InProcess()
    launcher = Plugins.instance()._instantiate(HydraConfig.get().launcher)
    if not isinstance(launcher, SweepLauncher):
        raise UserError(f"hydra/launcher={choice}: expected slurm, slurm_ddp or local")
    return launcher.dispatcher
