"""The runs that a table or a figure lacks, made by the command lines that a user would type."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from nsr_cli.commands.cells import cells_of
from nsr_cli.commands.composing import Composer
from nsr_cli.commands.launchers import SweepLauncher
from nsr_cli.engine.interrupts import answered
from nsr_cli.errors import UserError
from nsr_cli.folders import child_environment
from nsr_cli.report.experiments import expand


def run_missing(cfg: DictConfig, commands: list[list[str]]) -> list[str]:
    """Run command lines: with a launcher as one sweep, else one after the other. Returns those that failed."""
    choice = HydraConfig.get().runtime.choices["hydra/launcher"]
    if commands and choice != "basic":
        launcher = Plugins.instance()._instantiate(HydraConfig.get().launcher)
        if not isinstance(launcher, SweepLauncher):
            raise UserError(f"hydra/launcher={choice}: expected slurm, slurm_ddp or local")
        return launch(cfg, launcher, commands)
    environment = child_environment() | {"NSR_RESULTS": str(cfg.results), "NSR_DATA": str(cfg.data)}
    failed = []
    for words in commands:
        print("$ nsr " + " ".join(words), flush=True)
        if call([sys.executable, "-m", "nsr_cli", *words], environment):
            failed.append(" ".join(words))
    return failed


def call(command: list[str], environment: dict[str, str]) -> int:
    """The exit code of a command; what interrupts this process is passed on, and waited for: it may save then."""
    came: list[int] = []
    early: list[int] = []  # before there was anything to pass it on to
    process = None

    def pass_on(number: int, frame: object) -> None:
        number = signal.SIGTERM if number == signal.SIGHUP else number
        came.append(number)
        if process:
            process.send_signal(number)
        else:
            early.append(number)

    with answered((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), pass_on):
        process = subprocess.Popen(command, env=environment, start_new_session=True)  # reached from here alone
        for number in early:
            process.send_signal(number)
        code = process.wait()
    if came:
        raise KeyboardInterrupt if came[0] == signal.SIGINT else SystemExit(128 + came[0])
    return code


def launch(cfg: DictConfig, launcher: SweepLauncher, commands: list[list[str]]) -> list[str]:
    """Have a launcher do the runs of command lines, in one sweep; returns the cells that failed, which was told."""
    results, cells = Path(cfg.results).absolute(), []
    for words in commands:
        verb, combinations = expand(words)
        found = cells_of(
            verb, combinations, Composer(partial(compose, verb)), results, launcher.processes, Path(cfg.data)
        )
        for cell, overrides in zip(found, combinations, strict=True):
            cell.words = " ".join([verb, *overrides])
        cells += found
    own = HydraConfig.get().job.config_name  # table or figure
    launcher.send(f"nsr {own} {cfg[own]}", cells, results)
    return [cell.words for cell in cells if cell.failure]
