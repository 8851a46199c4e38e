"""What a command leaves below the results of a folder."""

from pathlib import Path

import torch
from torch import Tensor

from nsr_cli.runs.record import Record, read_record


def records(folder: Path) -> list[Path]:
    """The files of all records."""
    return sorted((folder / "results/records").glob("*/*.json"))


def only_record(folder: Path) -> Record:
    """The one record, which must be whole."""
    (path,) = records(folder)
    return read_record(path)


def weights(folder: Path) -> dict[str, Tensor]:
    """Those of the one training."""
    (path,) = (folder / "results/runs").glob("*/weights.pt")
    return torch.load(path, weights_only=True)["model"]
