"""nsr train, eval and ablate: train a model, score it, write its records."""

from functools import partial

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.config import check_level, run_of
from nsr_cli.commands.from_file import keys_of, with_network_of_file
from nsr_cli.launch.job import do_run
from nsr_cli.runs.record import first_psnr


def main(cfg: DictConfig, verb: str) -> float | None:
    """Train and score as the config says. Returns the first PSNR in dB, which sweepers may maximise."""
    values, words = resolved_values(cfg), HydraConfig.get().overrides.task
    if verb == "eval":
        values = with_network_of_file(values, words, Composer(partial(compose, verb)))
    check_level(values, keys_of(words))
    return first_psnr(do_run(run_of(values, verb)))
