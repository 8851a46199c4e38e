"""Checkpoints of plain tensors and numbers: written whole or not at all, read without running code."""

from pathlib import Path

import torch

from nsr_cli.files import replacing

KEPT = 2


def save(path: Path, state: dict) -> None:
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-*.pt"))


def save_step(folder: Path, step: int, state: dict) -> Path:
    """Write the checkpoint after ``step`` steps, then drop all but the last two."""
    path = folder / f"checkpoint-{step:09d}.pt"
    save(path, state)
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, say) -> dict | None:
    """The newest checkpoint that can be read; one that cannot is named and passed over."""
    for path in reversed(checkpoints(folder)):
        try:
            return load(path)
        except Exception as error:  # truncated, flipped bits: torch raises many kinds
            say(f"{path} cannot be read ({type(error).__name__}); falling back to the checkpoint before it")
    return None
