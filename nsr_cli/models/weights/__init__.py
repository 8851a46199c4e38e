"""Loading weights, published ones and our own: read as data only, recognised by content, checked, then copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from nsr_cli.errors import UserError
from nsr_cli.models.weights.folded import unfold_state
from nsr_cli.models.weights.read import read_content
from nsr_cli.models.weights.recognise import ARCHITECTURES, State, recognise

SMALLEST_TILE, LARGEST_TILE = 20, 2**12


@dataclass(frozen=True)
class Loaded:
    """The properties of loaded weights.

    Attributes:
        architecture: name of a class of this package, or of the model's class.
        tile: side of the degraded training patches in pixels; None if unknown.
        metadata: the numbers and texts beside the tensors of the file.
    """

    architecture: str
    tile: int | None
    metadata: Mapping[str, int | float | str] = field(default_factory=dict)


def load_weights(model: nn.Module, path: str | Path) -> Loaded:
    """Copy the weights of a file into ``model``; if anything is wrong, nothing is copied.

    The format is recognised by content, never by the file's name: MatConvNet (DnCNN), ARCNN or VDSR arrays in MATLAB
    files; PyTorch or .safetensors state dicts with the names of KAIR (DnCNN), EDSR-PyTorch, BasicSR (EDSR), the
    authors of the NSR paper (WDSR) or this package, plain, in a checkpoint, wrapped by a trainer, or folded by
    `nsr export`. No code of the file is run.

    Args:
        model: a network of this package, or any module if the file holds its state dict.
        path: the file.

    Raises:
        UserError: the file is missing, not regular, damaged, or not weights; it needs code to load; the architecture
            or sizes differ; numbers are not finite.
    """
    path = Path(path)
    content = read_content(path)
    found = recognise(content.tensors, set(model.state_dict()), path)
    state = unfold_state(model, found.state)
    check_fit(model, state, path, found.architecture)
    model.load_state_dict(state)
    return Loaded(found.architecture or class_of(model), found.tile or tile_of(content.metadata), content.metadata)


def load_fitting_layers(model: nn.Module, path: str | Path) -> list[str]:
    """Copy the layers of a file that fit into ``model``; the other layers keep their weights.

    A layer fits if all its tensors have the sizes of the model's, both tensors of a weight-normalised kernel included.

    Args:
        model: a network.
        path: a file as for :func:`load_weights`; its network may have other sizes.

    Returns:
        The names of the layers that do not fit.

    Raises:
        UserError: as by :func:`load_weights`; or at most half of the model's tensors fit.
    """
    path = Path(path)
    found, name = recognise(read_content(path).tensors, set(model.state_dict()), path), class_of(model)
    if found.architecture not in (None, name):
        raise UserError(f"{path}: weights of {found.architecture}, but the model is {name}")
    state = unfold_state(model, found.state)
    differences = differences_of(model, state)
    differing = dict.fromkeys(map(layer_of, differences))
    taken = {key: value for key, value in state.items() if layer_of(key) not in differing}
    if 2 * len(taken) <= (expected := len(model.state_dict())):  # tensors, not numbers: an upsampler may hold most
        first = "; ".join(list(differences.values())[:2])
        raise UserError(f"{path}: {len(taken)} of {expected} tensors of {name} fit, expected more than half: {first}")
    check_finite(model, taken, path)
    model.load_state_dict(taken, strict=False)
    return list(differing)


def layer_of(key: str) -> str:
    """The name of the layer of a tensor, from the tensor's key in a state dict."""
    return key.partition(".parametrizations.")[0] if ".parametrizations." in key else key.rpartition(".")[0]


def tile_of(metadata: Mapping[str, int | float | str]) -> int | None:
    """The side of the training patches, if the file is of a training of this package; else None."""
    patch = str(metadata.get("patch", "")) if "signature" in metadata else ""
    return int(patch) if patch.isascii() and patch.isdigit() and SMALLEST_TILE <= int(patch) <= LARGEST_TILE else None


def class_of(model: nn.Module) -> str:
    """The name of the known architecture that a model's class is or derives from; else the name of its class."""
    known = {architecture.name for architecture in ARCHITECTURES}
    return next((c.__name__ for c in type(model).__mro__ if c.__name__ in known), type(model).__name__)


def check_fit(model: nn.Module, state: State, path: Path, architecture: str | None = None) -> None:
    """Check that tensors have the keys and shapes of a model's state dict, and are finite.

    Args:
        model: the model.
        state: the tensors, with the names of the model.
        path: of their file, for errors.
        architecture: the recognised one; None if it is unknown.

    Raises:
        UserError: they do not fit; the text names the file and the first differences.
    """
    expected, differences, name = model.state_dict(), list(differences_of(model, state).values()), class_of(model)
    if not differences:
        check_finite(model, state, path)
        return
    if architecture is None and sum(key in expected for key in state) < len(expected) / 2:
        keys = ", ".join(f"{key} {shape_text(value.shape)}" for key, value in list(state.items())[:3])
        raise UserError(f"{path}: weights of an unknown architecture, not of {name}; they start with {keys}")
    if architecture not in (None, name):
        raise UserError(f"{path}: weights of {architecture}, but the model is {name}")
    more = f"; {len(differences) - 2} more differ" if len(differences) > 2 else ""
    raise UserError(f"{path}: weights of {name} in other sizes: {'; '.join(differences[:2])}{more}")


def differences_of(model: nn.Module, state: State) -> dict[str, str]:
    """The tensors whose shapes differ between a model and a file: both shapes in words, by key."""
    expected = model.state_dict()
    shapes = {key: [s[key].shape if key in s else None for s in (expected, state)] for key in {**expected, **state}}
    return {
        key: f"{key}: model {shape_text(model_shape)}, file {shape_text(file_shape)}"
        for key, (model_shape, file_shape) in shapes.items()
        if model_shape != file_shape
    }


def check_finite(model: nn.Module, state: State, path: Path) -> None:
    """Raise UserError for numbers that are not finite in the precision of the model."""
    expected = model.state_dict()
    for key, value in state.items():
        if not value.to(expected[key].dtype).isfinite().all():
            raise UserError(f"{path}: weights of {class_of(model)} with NaN or infinite numbers in {key}")


def shape_text(shape: torch.Size | None) -> str:
    """A tensor's shape in words; None is a missing tensor."""
    return "has none" if shape is None else str(tuple(shape))
