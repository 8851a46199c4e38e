"""Loggers: one interface to TensorBoard, Weights & Biases and MLflow, which show the numbers of a training."""

import importlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from nsr_cli.errors import UserError
from nsr_cli.files import write_text
from nsr_cli.regular import read_regular

PROJECT = "nsr"  # the project in W&B, and the experiment in MLflow


class Logger(Protocol):
    """Shows the numbers of a training. Constructed from a run's folder, which names the logged run, and its config."""

    def start(self, step: int) -> None:
        """Begin, or resume after ``step`` steps; what was logged of later steps is discarded."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers after a step, under names like gates/body.0.conv1/chosen/2."""

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Images after a step: (H, W) or (H, W, 3) in RGB, uint8."""

    def close(self, finished: bool) -> None:
        """End the log of a training, which is ``finished`` or was stopped."""


class TensorBoard:
    """Events in the folder ``tensorboard`` of a run."""

    def __init__(self, folder: Path, config: Mapping):
        self.folder, self.config = folder / "tensorboard", config
        self.writer = _import_package("torch.utils.tensorboard", "tensorboard").SummaryWriter

    def start(self, step: int) -> None:
        self.board = self.writer(str(self.folder), purge_step=step + 1)
        for name, value in flattened(self.config) if not step else ():
            self.board.add_text(name, str(value))

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self.board.add_scalar(name, number, step)
        self.board.flush()

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        for name, image in images.items():
            self.board.add_image(name, image, step, dataformats="HWC" if image.ndim == 3 else "HW")

    def close(self, finished: bool) -> None:
        self.board.close()


class Wandb:
    """A run of Weights & Biases, in the project nsr; WANDB_MODE=offline keeps it in the run's folder."""

    def __init__(self, folder: Path, config: Mapping):
        self.folder, self.config, self.wandb = folder, config, _import_package("wandb", "wandb")

    def start(self, step: int) -> None:
        remembered = self.folder / "wandb-run.txt"
        if not step or not remembered.exists():
            write_text(remembered, uuid.uuid4().hex)
        place = {"project": os.environ.get("WANDB_PROJECT", PROJECT), "name": self.folder.name, "dir": str(self.folder)}
        run = {"id": read_regular(remembered).decode(), "resume": "allow", "config": dict(self.config)}
        self.run = self.wandb.init(**place, **run)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log(numbers, step=step)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        self.run.log({name: self.wandb.Image(image) for name, image in images.items()}, step=step)

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


class Mlflow:
    """A run of MLflow, in the experiment nsr at MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, config: Mapping):
        self.folder, self.config, self.mlflow = folder, config, _import_package("mlflow", "mlflow")

    def start(self, step: int) -> None:
        remembered = self.folder / "mlflow-run.txt"
        self.mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        if step and remembered.exists():
            self.mlflow.start_run(run_id=read_regular(remembered).decode())
            return
        write_text(remembered, self.mlflow.start_run(run_name=self.folder.name).info.run_id)
        self.mlflow.log_params(dict(flattened(self.config)))

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.mlflow.log_metrics(numbers, step=step)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        for name, image in images.items():
            self.mlflow.log_image(image, key=name, step=step)

    def close(self, finished: bool) -> None:
        self.mlflow.end_run("FINISHED" if finished else "KILLED")


LOGGERS = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": Mlflow}


def _import_package(module: str, extra: str) -> ModuleType:
    """Import a package that an extra installs. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"logging to {extra} needs it installed: pip install 'nsr[{extra}]' ({error})") from None


def flattened(line: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the entries of a nested line or config, named as gates/body.0.conv1/chosen/2; without step and steps."""
    for key, value in line.items():
        if isinstance(value, list):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}/")
        elif prefix or key not in ("step", "steps"):
            yield prefix + key, value
