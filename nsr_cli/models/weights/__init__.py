"""Published and own weights: read as data only, recognised by content, checked, then copied into a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from nsr_cli.errors import UserError
from nsr_cli.models.weights.folded import unfolded
from nsr_cli.models.weights.read import read
from nsr_cli.models.weights.recognise import ARCHITECTURES, State, recognise

SMALLEST_TILE, LARGEST_TILE = 20, 2**12


@dataclass(frozen=True)
class Loaded:
    """What a weights file says of itself.

    Attributes:
        architecture: of the network: a class of this package, or the name of the model's own class.
        tile: side in pixels of the degraded patches that it was trained on; None where that is not known.
        metadata: the numbers and texts beside its tensors.
    """

    architecture: str
    tile: int | None
    metadata: Mapping[str, int | float | str] = field(default_factory=dict)


def load_weights(model: nn.Module, path: str | Path) -> Loaded:
    """Copy the weights of a file into ``model``; when anything is wrong, nothing is copied.

    The file's content, never its name, says what it is: MatConvNet (DnCNN), ARCNN or VDSR arrays in MATLAB
    files; PyTorch or .safetensors state dicts under the names of KAIR (DnCNN), EDSR-PyTorch, the authors of the
    NSR paper (WDSR) or this package, plain, in a checkpoint, wrapped by a trainer, or folded by `nsr export`. No code
    of the file is run.

    Args:
        model: a network of this package, or any module whose own state dict the file holds.
        path: the file.

    Raises:
        UserError: no such regular file; not weights; damaged; only code could load it; another architecture; other
            sizes; numbers that are not finite.
    """
    path = Path(path)
    content = read(path)
    found = recognise(content.tensors, set(model.state_dict()), path)
    state = unfolded(model, found.state)
    check_fit(model, state, path, found.architecture)
    model.load_state_dict(state)
    return Loaded(found.architecture or class_of(model), found.tile or tile_of(content.metadata), content.metadata)


def start_from(model: nn.Module, path: str | Path) -> list[str]:
    """Copy the layers of a file that fit into ``model``; the others keep what they were initialised with.

    A layer fits when all its tensors have the sizes of the model's: half of a weight-normalised kernel is none.

    Args:
        model: a network.
        path: of a file as for :func:`load_weights`, of the same architecture in other sizes, too.

    Returns:
        The layers that differ, by name.

    Raises:
        UserError: as by :func:`load_weights`; or no layer fits.
    """
    path = Path(path)
    found, name = recognise(read(path).tensors, set(model.state_dict()), path), class_of(model)
    if found.architecture not in (None, name):
        raise UserError(f"{path}: weights of {found.architecture}, but the model is {name}")
    differences = differences_of(model, found.state)
    differing = dict.fromkeys(map(layer_of, differences))
    taken = {key: value for key, value in found.state.items() if layer_of(key) not in differing}
    if not taken:
        raise UserError(f"{path}: no layer of it fits {name}: {'; '.join(list(differences.values())[:2])}")
    check_finite(model, taken, path)
    model.load_state_dict(taken, strict=False)
    return list(differing)


def layer_of(key: str) -> str:
    """The layer that a tensor belongs to, by its key in a state dict."""
    return key.partition(".parametrizations.")[0] if ".parametrizations." in key else key.rpartition(".")[0]


def tile_of(metadata: Mapping[str, int | float | str]) -> int | None:
    """The side of the patches of a training of ours, whose file has its signature too."""
    patch = str(metadata.get("patch", "")) if "signature" in metadata else ""
    return int(patch) if patch.isascii() and patch.isdigit() and SMALLEST_TILE <= int(patch) <= LARGEST_TILE else None


def class_of(model: nn.Module) -> str:
    """The architecture that a model is of, or is derived from; else the name of its class."""
    known = {architecture.name for architecture in ARCHITECTURES}
    return next((c.__name__ for c in type(model).__mro__ if c.__name__ in known), type(model).__name__)


def check_fit(model: nn.Module, state: State, path: Path, architecture: str | None = None) -> None:
    """Check that tensors are those of a model: key by key, shape by shape, and finite.

    Args:
        model: whose state dict is expected.
        state: the tensors, under the names of the model.
        path: of their file, for errors.
        architecture: that they were recognised as, where they were.

    Raises:
        UserError: they are not; the text names the file and the first that differ.
    """
    own, differences, name = model.state_dict(), list(differences_of(model, state).values()), class_of(model)
    if not differences:
        check_finite(model, state, path)
        return
    if architecture is None and sum(key in own for key in state) < len(own) / 2:
        keys = ", ".join(f"{key} {describe(value.shape)}" for key, value in list(state.items())[:3])
        raise UserError(f"{path}: weights of an unknown architecture, not of {name}; they start with {keys}")
    if architecture not in (None, name):
        raise UserError(f"{path}: weights of {architecture}, but the model is {name}")
    more = f"; {len(differences) - 2} more differ" if len(differences) > 2 else ""
    raise UserError(f"{path}: weights of {name} in other sizes: {'; '.join(differences[:2])}{more}")


def differences_of(model: nn.Module, state: State) -> dict[str, str]:
    """The shapes of tensors that a model and a file have not alike, in words, by key."""
    own = model.state_dict()
    shapes = {key: [s[key].shape if key in s else None for s in (own, state)] for key in {**own, **state}}
    return {
        key: f"{key}: model {describe(model_shape)}, file {describe(file_shape)}"
        for key, (model_shape, file_shape) in shapes.items()
        if model_shape != file_shape
    }


def check_finite(model: nn.Module, state: State, path: Path) -> None:
    """Raise UserError for numbers that are not finite in the precision of the model."""
    own = model.state_dict()
    for key, value in state.items():
        if not value.to(own[key].dtype).isfinite().all():
            raise UserError(f"{path}: weights of {class_of(model)} with NaN or infinite numbers in {key}")


def describe(shape: torch.Size | None) -> str:
    return "has none" if shape is None else str(tuple(shape))
