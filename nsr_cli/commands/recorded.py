"""What of a run is on the disk: its records, its weights, its pictures. Knows nothing of torch."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.settings import Run, data_name
from nsr_cli.data.catalog import find, image_paths, is_folder, lr_partner
from nsr_cli.engine.conventions import conventions
from nsr_cli.errors import Failed, UserError, each
from nsr_cli.report.records import number, read_record


def benchmarks_of(
    cfg: DictConfig, run: Run, may_train: bool, images_of: Callable[[str, Path], list[Path]] = image_paths
) -> dict[str, list[Path]]:
    """The images of each benchmark of a config.

    Raises:
        UserError: for all that are missing, and then also for those that the run would be trained on.
    """
    for name in cfg.benchmarks:
        if not is_folder(name):
            find(name)  # complains about an unknown one, for that is another matter
    look = partial(images_of, root=Path(cfg.data))
    try:
        return each(look, cfg.benchmarks)
    except UserError:
        if may_train and lacks_weights(cfg, run):
            each(look, dict.fromkeys([*cfg.benchmarks, cfg.train]))
        raise


def records_of(cfg: DictConfig, run: Run) -> dict[str, dict | None]:
    """The record of each benchmark, or None where there is none that holds what the config asks for."""
    task, reads = OmegaConf.to_container(cfg.task, resolve=True), list(cfg.model.reads)
    found = {}
    for name in cfg.benchmarks:
        used = conventions(task, name, reads)
        found[name] = read_record(run.record(name), run.scores.signature, data_name(name), used)
    return found


def scores_of(record: dict) -> str:
    """What a record says, in words."""
    return "   ".join(
        f"{name}: {number(score['psnr']):.4f} dB  SSIM {score['ssim']:.5f}" for name, score in record["scores"].items()
    )


def to_score(
    cfg: DictConfig, run: Run, benchmarks: dict[str, list[Path]], records: dict[str, dict | None]
) -> list[str]:
    """The benchmarks on which there is something to score, or to save."""
    return [
        name for name, paths in benchmarks.items() if cfg.rescore or _is_missing(cfg, run, name, paths, records[name])
    ]


def _is_missing(cfg: DictConfig, run: Run, benchmark: str, paths: list[Path], record: dict | None) -> bool:
    images = saved_images(run, benchmark, paths).values()
    unsaved = cfg.save_images and not all(path.exists() for path in images)
    official = uses_official(cfg.task, paths)  # low-resolution images, which may have come since
    return unsaved or record is None or record.get("official_low_resolution", False) != official


def trains(cfg: DictConfig) -> bool:
    """Whether the method's weights come from a training of ours."""
    return cfg.model.trained and not cfg.ckpt


def lacks_weights(cfg: DictConfig, run: Run) -> bool:
    return trains(cfg) and not (run.folder / "weights.pt").exists()


def is_finished(cfg: DictConfig, run: Run, benchmarks: dict[str, list[Path]], records: dict[str, dict | None]) -> bool:
    """Whether a config asks for nothing that is not on the disk."""
    asks = cfg.explain or cfg.dry_run or (cfg.weights and lacks_weights(cfg, run))
    return not asks and not to_score(cfg, run, benchmarks, records)


def check_diverged(run: Run, records: dict[str, dict | None]) -> None:
    """Raise Failed if the training of a recorded run diverged."""
    for benchmark, record in records.items():
        if diverged := record.get("diverged"):
            where = run.record(benchmark).resolve()
            raise Failed(f"diverged: {diverged}; it is recorded in {where}, and rescore=true tries once more")


def images_folder(run: Run, benchmark: str) -> Path:
    way = "-hard" if run.scores != run.weights else ""
    return run.folder / "images" / f"{data_name(benchmark)}{way}"


def saved_images(run: Run, benchmark: str, paths: list[Path]) -> dict[Path, Path]:
    """Where the restored image of each file is saved; a stem that two files share keeps its ending."""
    stems = Counter(path.stem for path in paths)
    folder = images_folder(run, benchmark)
    return {path: folder / f"{path.name if stems[path.stem] > 1 else path.stem}.png" for path in paths}


def uses_official(task: Mapping, paths: list[Path]) -> bool:
    """Whether low-resolution images are DIV2K's official ones."""
    return task["name"] == "sr" and lr_partner(paths[0], task["scale"]) is not None
