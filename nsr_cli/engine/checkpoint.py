"""Checkpoints of plain tensors and numbers: written whole or not at all, verified, and read without running code."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from nsr_cli.errors import Failed
from nsr_cli.files import replacing

KEPT = 2


def save(path: Path, state: dict) -> None:
    content = io.BytesIO()  # torch's own file writer turns a full disk into an internal error
    torch.save(state, content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load(path: Path) -> dict:
    """The state in a file, on the CPU.

    Raises:
        Exception: of many kinds, when a byte of the file is not what was written.
    """
    with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_finished(path: Path, signature: str) -> dict:
    """The final weights of the run with this signature.

    Raises:
        Failed: the file is damaged, or holds another run's weights.
    """
    try:
        state = load(path)
    except Exception as error:
        kind = type(error).__name__
        raise Failed(
            f"{path.resolve()} is damaged ({kind}); delete it and repeat the command to train again"
        ) from error
    if state["signature"] != signature:
        raise Failed(f"{path.resolve()} holds another run's weights; delete it and repeat the command to train again")
    return state


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


def load_newest(folder: Path, say: Callable[[str], None]) -> dict | None:
    """The newest checkpoint that can be read; one that cannot is named and passed over. None where there is none.

    Raises:
        Failed: there are checkpoints, and none of them can be read; starting again is for the user to decide.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return load(path)
        except Exception as error:  # truncated, flipped bits: many kinds
            say(f"{path} cannot be read ({type(error).__name__}); falling back to the checkpoint before it")
    if found:
        raise Failed(f"no checkpoint in {folder.resolve()} can be read; delete them to train from the start")
    return None


def check_resumable(folder: Path, state: dict, signature: str, data: str) -> None:
    """Raise Failed for a checkpoint that this training cannot go on from."""
    expected = {"model", "optimizer", "scaler", "signature", "step", "seconds", "best", "data"}
    remedy = "delete the checkpoints to train from the start"
    if state.keys() != expected:
        differing = ", ".join(sorted(state.keys() ^ expected))
        raise Failed(f"{folder} holds a checkpoint of another version of nsr (it differs in: {differing}); {remedy}")
    if state["signature"] != signature:
        raise Failed(f"{folder} holds a checkpoint of another run: {state['signature']}, not {signature}")
    if state["data"] != data:
        raise Failed(f"the training images have changed since the checkpoint in {folder}; {remedy}")
