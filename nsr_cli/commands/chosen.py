"""The runs that a figure shows, each given by its overrides of `nsr ablate`."""

from pathlib import Path

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig

from nsr_cli.commands.composing import settled
from nsr_cli.commands.explain import explain
from nsr_cli.commands.missing import run_missing
from nsr_cli.commands.settings import check, run_of
from nsr_cli.errors import Failed, UserError


def configs_of(cfg: DictConfig, runs: list[str]) -> dict[str, DictConfig]:
    """The config of each run, with the figure's protocol, first seed and folders."""
    configs = {}
    for run in runs:
        keys = [word.partition("=")[0].lstrip("+~") for word in run.split()]
        if given := [key for key in keys if key in ("protocol", "seed", "results", "data", "dry_run")]:
            said = "seeds" if given[0] == "seed" else given[0]
            raise UserError(f"runs=[{run}]: {given[0]} is the figure's own; expected {said}=... beside runs")
        try:
            configs[run] = compose("ablate", [*settled("ablate", run.split()), *_shared(cfg)])
        except HydraException as error:
            raise UserError(f"runs=[{run}]: {explain(error, 'ablate')}") from None
        configs[run].results, configs[run].data = cfg.results, cfg.data
        check(configs[run], trains=True)
    return configs


def untrained(cfg: DictConfig, configs: dict[str, DictConfig]) -> dict[str, str]:
    """The runs without weights, and the command lines that train them; with run=true they are run first."""

    def missing() -> list[str]:
        return [run for run, config in configs.items() if not (run_of(config).folder / "weights.pt").exists()]

    def overrides(run: str) -> list[str]:
        return [*run.split(), *_shared(cfg), "weights=true"]

    commands = [["ablate", "-m", *overrides(run)] for run in missing()] if cfg.run else []
    if failed := run_missing(cfg, commands):
        raise Failed(f"these failed: {'; '.join(failed)}")
    return {run: f"nsr ablate {' '.join(overrides(run))}" for run in missing()}


def need_weights(cfg: DictConfig, configs: dict[str, DictConfig]) -> None:
    """Raise UserError unless all these runs are trained, which run=true does."""
    if commands := untrained(cfg, configs):
        folder = Path(cfg.results).resolve() / "runs"
        raise UserError(f"no weights in {folder}; run=true makes them, or {'; '.join(commands.values())}")


def suffix(cfg: DictConfig, configs: dict[str, DictConfig]) -> str:
    """For the names of files: the names of runs that are not the figure's own."""
    return "".join(f"-{run_of(config).weights.name}" for config in configs.values()) if cfg.runs else ""


def first_seed(cfg: DictConfig) -> int:
    return cfg.seeds[0] if cfg.seeds else 0


def _shared(cfg: DictConfig) -> list[str]:
    return [f"protocol={cfg.protocol.name}", f"seed={first_seed(cfg)}"]
