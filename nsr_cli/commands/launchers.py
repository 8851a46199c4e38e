"""The base of nsr's Hydra launchers: it composes the configs of a sweep, and hands its runs to a dispatcher."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.cells import cells_of
from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.knobs import VERB_KNOBS, check_knobs
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable
from nsr_cli.launch.dispatch import Dispatcher, InProcess

SAME_FOR_ALL = ("results", "wait", "dry_run")  # keys of a sweep as a whole


class SweepLauncher(Launcher):
    """A launcher that gives the cells of a sweep to a dispatcher of class ``kind``."""

    kind: ClassVar[type[Dispatcher]]

    def __init__(self, **settings):
        plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}
        self.dispatcher = self.kind(**plain)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        if config.hydra.runtime.choices["hydra/sweeper"] == "optuna":  # asked before it begins, and stores, a study
            if config.dry_run:
                what = "what it tries depends on scores; without hydra/sweeper=optuna it shows the run of one choice"
                raise UserError(f"hydra/sweeper=optuna: dry_run=true: {what}")
            if not config.wait and self.kind is not InProcess:  # where wait=false leaves before the scores
                raise UserError("hydra/sweeper=optuna: wait=false: it needs the scores of its runs; expected wait=true")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        verb, values = self.task.verb, resolved_values(self.config)
        if not job_overrides:
            raise UserError("hydra/sweeper=optuna: expected hydra.sweeper.n_jobs of 1 or above")
        for key in SAME_FOR_ALL:
            swept = dict.fromkeys(word for words in job_overrides for word in words if word.startswith(f"{key}="))
            if len(swept) > 1:
                raise UserError(f"{', '.join(swept)}: one {key} for all runs of a sweep")
        composer = Composer(partial(self.context.config_loader.load_sweep_config, self.config))
        check_knobs(values, VERB_KNOBS[verb])
        results = Path(values["results"]).absolute()
        cells = cells_of(verb, job_overrides, composer, results, self.dispatcher.processes)
        if not values["dry_run"] and not all(cell.finished or cell.failure for cell in cells):
            check_writable("results", values["results"])
        self.dispatcher.send(f"nsr {verb}", cells, results, values["wait"], values["dry_run"])
        self.task.ends.extend(cell.failure for cell in cells if cell.failure or cell.finished)
        # completed, failed cells too: Hydra would raise the first failure, and leave out the later batches
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=cell.psnr) for cell in cells]
