"""nsr train, eval and ablate: train a model, score it, write its records."""

from omegaconf import DictConfig

from nsr_cli.commands.composing import resolved
from nsr_cli.commands.config import run_of
from nsr_cli.engine.processes import world_size
from nsr_cli.runs.stored import Store, show


def main(cfg: DictConfig, verb: str) -> float | None:
    """Do what the config asks for; returns the first PSNR in dB, which sweepers may search by."""
    run, store = run_of(resolved(cfg), verb), Store()
    store.images(run)
    if store.is_finished(run) and world_size() == 1:
        records = store.finished(run)
        show(run, records)
    else:
        from nsr_cli.runs.perform import perform  # imports torch: not for --help, nor for what cannot be

        records = perform(run)
    return next((next(iter(record.scores.values())).means["psnr"] for record in records.values()), None)
