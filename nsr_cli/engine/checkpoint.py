"""Checkpoints of plain tensors and numbers: written whole or not at all, verified, and read without running code."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nsr_cli.errors import Failed
from nsr_cli.files import replacing
from nsr_cli.models.weights.read import check_zip

MOST_KEPT = 2
FINAL = dict.fromkeys(("model", "signature", "step", "seconds")).keys()  # what weights.pt holds
STATE = FINAL | {"optimizer", "scaler", "losses", "best", "data"}  # what a checkpoint holds


def save(path: Path, state: dict) -> None:
    """Write a state to a file, whole or not at all."""
    content = io.BytesIO()  # torch's own file writer turns a full disk into an internal error
    torch.save(state, content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load(path: Path) -> dict:
    """The state in a file, on the CPU.

    Raises:
        Exception: of many kinds, where a byte of the file has changed.
    """
    check_zip(path)  # torch does not verify the checksums that it writes
    return torch.load(path, map_location="cpu", weights_only=True)


def load_finished(path: Path, signature: str, network: nn.Module | None = None) -> dict:
    """The final state of the run with this signature; its weights are loaded into ``network``.

    Raises:
        Failed: the file is damaged, holds another run's weights, or weights that do not fit the network.
    """
    remedy = "delete it and repeat the command to train again"
    try:
        state = load(path)
    except Exception as error:
        raise Failed(f"{path.resolve()} is damaged ({type(error).__name__}); {remedy}") from error
    if not isinstance(state, dict) or not state.keys() >= FINAL:
        raise Failed(f"{path.resolve()} is no file of a finished training, which holds {', '.join(FINAL)}; {remedy}")
    if state["signature"] != signature:
        raise Failed(f"{path.resolve()} holds another run's weights; {remedy}")
    if network is not None:
        load_into(network, state["model"], path)
    return state


def load_into(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load the weights of a file into a network. Raises Failed, which names the file, where they do not fit."""
    try:
        network.load_state_dict(weights)
    except Exception as error:  # torch lists every name that differs, a line each
        own = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        named = weights if isinstance(weights, dict) else {}
        held = {name: list(getattr(value, "shape", [])) for name, value in named.items()}
        name = next((name for name in sorted(own | held) if own.get(name) != held.get(name)), "")
        shapes = f"its {name} is {held.get(name, 'missing')}, the network's is {own.get(name, 'missing')}"
        raise Failed(f"{path.resolve()} does not fit the network: {shapes}; delete it to train again") from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("checkpoint-*.pt"))


def save_step(folder: Path, step: int, state: dict) -> Path:
    """Write the checkpoint after ``step`` steps, then drop all but the last two."""
    path = folder / f"checkpoint-{step:09d}.pt"
    save(path, state)
    for old in checkpoints(folder)[:-MOST_KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, say: Callable[[str], None]) -> tuple[Path, dict] | None:
    """(file, state) of the newest readable checkpoint; None where there are no checkpoints.

    An unreadable checkpoint is named and skipped.

    Raises:
        Failed: no checkpoint can be read. The user decides whether to start again.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return path, load(path)
        except Exception as error:  # truncated, flipped bits: many kinds
            say(f"{path} cannot be read ({type(error).__name__}); falling back to the checkpoint before it")
    if found:
        raise Failed(f"no checkpoint in {folder.resolve()} can be read; delete them to train from the start")
    return None


def check_resumable(folder: Path, state: dict, signature: str, data: str) -> None:
    """Raise Failed for a checkpoint that this training cannot resume from.

    Args:
        folder: of the checkpoint.
        state: its content.
        signature: of the run.
        data: digest of the training images.
    """
    remedy = "delete the checkpoints to train from the start"
    if (keys := state.keys() if isinstance(state, dict) else set()) != STATE:
        differing = ", ".join(sorted(map(str, keys ^ STATE)))
        raise Failed(f"{folder} holds a checkpoint of another version of nsr (it differs in: {differing}); {remedy}")
    if state["signature"] != signature:
        raise Failed(f"{folder} holds a checkpoint of another run: {state['signature']}, not {signature}")
    if state["data"] != data:
        raise Failed(f"the training images have changed since the checkpoint in {folder}; {remedy}")
