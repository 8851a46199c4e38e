"""Hydra's launchers of nsr: they compose a sweep's configs and hand the runs to a dispatcher of nsr_cli.launch."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.cells import cells_of
from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.knobs import VERB_KNOBS, check_knobs
from nsr_cli.files import check_writable
from nsr_cli.launch.cells import Cell
from nsr_cli.launch.dispatch import Dispatcher, InProcess
from nsr_cli.launch.local import OnThisMachine
from nsr_cli.launch.on_slurm import OnSlurm


class CellReturn(JobReturn):
    """A cell's result for Hydra. Hydra's own class raises the first failure, which would stop the later batches."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.psnr = cell.psnr

    @property
    def return_value(self) -> float | None:
        """The first PSNR in dB, which searching sweepers such as Optuna's maximise."""
        return self.psnr


class SweepLauncher(Launcher):
    """The base of the launchers: composes the cells of a sweep, and gives them to a dispatcher of class ``kind``."""

    kind: ClassVar[type[Dispatcher]]

    def __init__(self, **settings):
        plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}
        self.dispatcher = self.kind(**plain)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        verb, values = self.task.verb, resolved_values(self.config)
        composer = Composer(partial(self.context.config_loader.load_sweep_config, self.config))
        check_knobs(values, VERB_KNOBS[verb])
        results = Path(values["results"]).absolute()
        cells = cells_of(verb, job_overrides, composer, results, self.dispatcher.processes)
        if not values["dry_run"] and not all(cell.finished or cell.failure for cell in cells):
            check_writable("results", values["results"])
        self.dispatcher.send(f"nsr {verb}", cells, results, values["wait"], values["dry_run"])
        self.task.ends.extend(cell.failure for cell in cells if cell.failure or cell.finished)
        return [CellReturn(cell) for cell in cells]


class PlainLauncher(SweepLauncher):
    """The launcher used without hydra/launcher=...; replaces Hydra's own."""

    kind = InProcess


class SlurmLauncher(SweepLauncher):
    """hydra/launcher=slurm and slurm_ddp."""

    kind = OnSlurm


class LocalLauncher(SweepLauncher):
    """hydra/launcher=local."""

    kind = OnThisMachine
