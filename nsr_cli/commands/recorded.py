"""What of a run is on the disk: its records, its weights, its pictures. Knows nothing of torch."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.settings import Run, data_name
from nsr_cli.data.catalog import image_paths, lr_partner
from nsr_cli.engine.conventions import conventions
from nsr_cli.errors import Failed
from nsr_cli.report.records import number, read_record


def benchmarks_of(cfg: DictConfig) -> dict[str, list[Path]]:
    """The images of each benchmark of a config."""
    return {name: image_paths(name, Path(cfg.data)) for name in cfg.benchmarks}


def record_of(cfg: DictConfig, run: Run, benchmark: str) -> dict | None:
    used = conventions(OmegaConf.to_container(cfg.task, resolve=True), benchmark, list(cfg.model.reads))
    return read_record(run.record(benchmark), run.scores.signature, data_name(benchmark), used)


def scores_of(cfg: DictConfig, run: Run, benchmark: str) -> str:
    """What a record says, in words."""
    return "   ".join(
        f"{name}: {number(score['psnr']):.4f} dB  SSIM {score['ssim']:.5f}"
        for name, score in record_of(cfg, run, benchmark)["scores"].items()
    )


def is_missing(cfg: DictConfig, run: Run, benchmark: str, paths: list[Path]) -> bool:
    """Whether there is something to score, or to save, on a benchmark of these images."""
    images = saved_images(run, benchmark, paths).values()
    unsaved = cfg.save_images and not all(path.exists() for path in images)
    record = record_of(cfg, run, benchmark)
    official = uses_official(cfg.task, paths)  # low-resolution images, which may have come since
    return cfg.rescore or unsaved or record is None or record.get("official_low_resolution", False) != official


def trains(cfg: DictConfig) -> bool:
    """Whether the method's weights come from a training of ours."""
    return cfg.model.trained and not cfg.ckpt


def lacks_weights(cfg: DictConfig, run: Run) -> bool:
    return trains(cfg) and not (run.folder / "weights.pt").exists()


def is_finished(cfg: DictConfig, run: Run) -> bool:
    """Whether a config asks for nothing that is not on the disk."""
    asks = cfg.explain or cfg.dry_run or (cfg.weights and lacks_weights(cfg, run))
    return not asks and not any(is_missing(cfg, run, *benchmark) for benchmark in benchmarks_of(cfg).items())


def check_diverged(cfg: DictConfig, run: Run) -> None:
    """Raise Failed if the training of a recorded run diverged."""
    for benchmark in cfg.benchmarks:
        if diverged := record_of(cfg, run, benchmark).get("diverged"):
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
