"""Where Hydra looks for plugins: ours, under the names that conf/hydra gives them."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override

from nsr_cli.commands import launchers
from nsr_cli.errors import UserError
from nsr_cli.launch.dispatch import InProcess
from nsr_cli.launch.local import OnThisMachine
from nsr_cli.launch.on_slurm import OnSlurm


class SlurmLauncher(launchers.SweepLauncher):
    """hydra/launcher=slurm and slurm_ddp."""

    kind = OnSlurm


class LocalLauncher(launchers.SweepLauncher):
    """hydra/launcher=local."""

    kind = OnThisMachine


class PlainLauncher(launchers.SweepLauncher):
    """Without hydra/launcher=..., in the place of Hydra's own."""

    kind = InProcess


ConfigStore.instance().store("basic", {"_target_": f"{__name__}.PlainLauncher"}, group="hydra/launcher", provider="nsr")


class Sweeper(BasicSweeper):
    """Hydra's own sweeper, but that it leaves the look at each config to our launchers, which take one anyway.

    It refuses an override that names no values.
    """

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        for override in filter(Override.is_sweep_override, overrides):
            if not override.is_discrete_sweep():
                raise UserError(f"{override.input_line}: expected values as 1,2; hydra/sweeper=optuna takes intervals")
            if not list(override.sweep_string_iterator()):
                raise UserError(f"{override.input_line}: expected one value at least")
        return BasicSweeper.split_arguments(overrides, max_batch_size)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        if not isinstance(self.launcher, launchers.SweepLauncher):
            super().validate_batch_is_legal(batch)
