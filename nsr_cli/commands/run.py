"""nsr train, eval and ablate: train a model, score it, write its records."""

from omegaconf import DictConfig

from nsr_cli.commands.composing import resolved_values
from nsr_cli.commands.config import run_of
from nsr_cli.launch.job import do_run
from nsr_cli.runs.record import first_psnr


def main(cfg: DictConfig, verb: str) -> float | None:
    """Train and score as the config says. Returns the first PSNR in dB, which sweepers may maximise."""
    return first_psnr(do_run(run_of(resolved_values(cfg), verb)))
