"""Published and own weights: read as data only, recognised by content, checked, then copied into a model."""

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import scipy.io
import torch
from torch import Tensor, nn

from nsr_cli.errors import UserError
from nsr_cli.models.edsr import DIV2K_MEAN

State = dict[str, Tensor]

CONTAINERS = ("model_state_dict", "params_ema", "params", "state_dict", "model")  # the first found is taken
FORMATS = "a MATLAB .mat file (5 or 7.3) or a PyTorch checkpoint"


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the weights of a file into ``model``; when anything is wrong, nothing is copied.

    The file's content, never its name, says what it is: MatConvNet (DnCNN), ARCNN or VDSR arrays in MATLAB
    files; PyTorch state dicts under the names of KAIR (DnCNN), EDSR-PyTorch, the authors of the NSR paper
    (WDSR) or this package, plain or in a checkpoint. No code of the file is run.

    Args:
        model: a network of this package, or any module whose own state dict the file holds.
        path: the file.

    Raises:
        UserError: no such file; not weights; only code could load it; another architecture; other sizes.
    """
    path = Path(path)
    content = read(path)
    as_it_is = content.keys() == model.state_dict().keys()
    architecture, state = (None, content) if as_it_is else recognise(content, path)
    check(model, architecture, state, path)
    model.load_state_dict(state)
    return Loaded(architecture, None)


@dataclass(frozen=True)
class Loaded:
    architecture: str | None
    tile: int | None


# Reading: file to plain tensors or arrays


def read(path: Path) -> dict[str, Any]:
    """Tensors of a PyTorch file, or arrays, structs (dict) and cells (list) of a MATLAB file, by name."""
    if not path.is_file():
        raise UserError(f"no weights file {path}")
    with path.open("rb") as file:
        start = file.read(24)
    if start.startswith(b"MATLAB 5.0"):
        reader = read_matlab5
    elif start.startswith((b"MATLAB 7.3", b"\x89HDF\r\n\x1a\n")):
        reader = read_matlab73
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        reader = read_pytorch
    else:
        raise UserError(f"{path}: not network weights; expected {FORMATS}, but it starts with {start!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickles that it then refuses
            return reader(path)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise refusal(path, found.group(1) if found else "pickle instructions beyond those of tensors") from None
    except UserError:
        raise
    except Exception as error:  # whatever the three libraries raise on damaged files
        if "TorchScript" in str(error):
            raise refusal(path, "a TorchScript program") from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not network weights, or damaged; expected {FORMATS} ({reason})") from None


def refusal(path: Path, code: str) -> UserError:
    advice = "save the tensors alone: torch.save(model.state_dict(), path)"
    return UserError(f"{path}: refused, because to load it is to run code that it names ({code}); {advice}")


def read_pytorch(path: Path) -> State:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for _ in range(2):  # a container in a container at most
        if isinstance(content, Mapping):
            inner = (content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping))
            content = next(inner, content)
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: not network weights: it holds a {type(content).__name__}, not named tensors")
    for key, value in content.items():
        tensor = isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
        if not (tensor and (value.is_floating_point() or value.dtype == torch.int64)):
            raise UserError(f"{path}: not network weights: {key!r} holds {type(value).__name__}, not a dense tensor")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""  # nn.DataParallel
    return {key.removeprefix(prefix): value for key, value in content.items()}


MOST_NUMBERS = 2**28  # in one array: 1 GiB of float32


def check_numbers(name: str, count: int) -> None:
    """Raise ValueError for an array that is larger than any weights; a small file can claim to hold one."""
    if count > MOST_NUMBERS:
        raise ValueError(f"{name} holds {count:,} numbers, more than any weights")


def read_matlab5(path: Path) -> dict[str, Any]:
    def plain(value: np.ndarray) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.names:
            return {name: plain(value.flat[0][name]) for name in value.dtype.names} if value.size else {}
        if value.dtype == object:
            return [plain(element) for element in value.ravel(order="F")]
        return str(value.flat[0]) if value.dtype.kind == "U" and value.size == 1 else value

    for name, shape, _ in scipy.io.whosmat(path):  # from headers, before anything is unpacked
        check_numbers(name, math.prod(shape))
    return {name: plain(value) for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}


def read_matlab73(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: MATLAB 7.3 files need the package h5py: pip install nsr[mat] ({error})") from None

    def plain(value: Any, depth: int = 0) -> Any:  # of an h5py Group or Dataset
        if depth > 8:
            raise ValueError("structs nested deeper than in any weights")
        if isinstance(value, h5py.Group):
            return {name: plain(member, depth + 1) for name, member in value.items()}
        check_numbers(value.name, value.size)
        if h5py.check_ref_dtype(value.dtype):
            return [plain(file[reference], depth + 1) for reference in value[()].ravel()]
        if value.attrs.get("MATLAB_class") == b"char":
            return "".join(map(chr, value[()].ravel()))
        return value[()].T  # HDF5 lists MATLAB's axes in reverse

    with h5py.File(path) as file:
        return {name: plain(value) for name, value in file.items() if not name.startswith("#")}


# Recognising: names of the file to names of our modules


@dataclass(frozen=True)
class Layout:
    """How a release names the parameters of an architecture.

    Attributes:
        architecture: the class of ours that they belong to.
        marks: keys that together tell the release.
        modules: from the number of blocks to {the release's module: ours}.
    """

    architecture: str
    marks: tuple[str, ...]
    modules: Callable[[int], dict[str, str]]


def nsr_authors(blocks: int) -> dict[str, str]:
    inside = {f"body.{i + 1}.body.{j}": f"body.{i}.conv{1 + j // 2}" for i in range(blocks) for j in (0, 2)}
    return {"body.0": "head", **inside, f"body.{blocks + 1}": "tail", "skip.0": "skip"}


def edsr_pytorch(blocks: int) -> dict[str, str]:
    inside = {f"body.{i}.body.{j}": f"body.{i}.conv{1 + j // 2}" for i in range(blocks) for j in (0, 2)}
    ends = {"head.0": "head", f"body.{blocks}": "body_end", "tail.1": "tail"}
    return {**ends, **inside, "tail.0.0": "upsample.0", "tail.0.2": "upsample.1"}


def kair_dncnn(blocks: int) -> dict[str, str]:
    return {"model": "noise"}


LAYOUTS = (
    Layout("WDSR", ("body.0.weight_v", "body.1.body.0.weight_v"), nsr_authors),
    Layout("EDSR", ("head.0.weight", "tail.0.0.weight"), edsr_pytorch),
    Layout("DnCNN", ("model.0.weight", "model.2.weight"), kair_dncnn),
)
PARAMETERS = {  # of a layer, under the names of the releases: ours
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
    "mlp.0.weight": "gate.linear.weight",
    "mlp.0.bias": "gate.linear.bias",
}
OWN = {  # a module that only this architecture has
    "EDSR": "body_end.",
    "WDSR": "body.0.conv1.parametrizations.",
    "VDSR": "residual.",
    "DnCNN": "noise.",
    "ARCNN": "reconstruct.",
}


def recognise(content: dict[str, Any], path: Path) -> tuple[str | None, State]:
    """The architecture, if known, and the tensors under the names of our modules."""
    if not isinstance(next(iter(content.values()), None), Tensor):
        try:
            return recognise_matlab(content, path)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise UserError(f"{path}: arrays that do not fit together as a network ({error})") from None
    for layout in LAYOUTS:
        if all(mark in content for mark in layout.marks):
            if layout.architecture == "EDSR":
                content = without_mean_shift(content, path)
            blocks = sum(re.fullmatch(r"body\.\d+\.body\.0\.bias", key) is not None for key in content)
            modules = layout.modules(blocks)
            return layout.architecture, {renamed(key, modules): value for key, value in content.items()}
    own = (name for name, mark in OWN.items() if any(key.startswith(mark) for key in content))
    return next(own, None), content


def renamed(key: str, modules: dict[str, str]) -> str:
    for theirs, ours in modules.items():
        if key.startswith(f"{theirs}."):
            parameter = key.removeprefix(f"{theirs}.")
            return f"{ours}.{PARAMETERS.get(parameter, parameter)}"
    return key


def without_mean_shift(content: State, path: Path) -> State:
    """Leave out the fixed layers of EDSR-PyTorch, having checked that they hold the constants of our EDSR."""
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        expected = sign * 255 * torch.tensor(DIV2K_MEAN)
        shift = content.get(f"{name}.bias", expected).float()
        if shift.shape != expected.shape or not torch.allclose(shift, expected):
            found = f"{name}.bias is {shift.tolist()}, expected {expected.tolist()}"
            raise UserError(f"{path}: EDSR of another mean or range: {found}")
    return {key: value for key, value in content.items() if not key.startswith(("sub_mean.", "add_mean."))}


def recognise_matlab(content: dict[str, Any], path: Path) -> tuple[str, State]:
    if "net" in content and "layers" in content["net"]:
        layers = content["net"]["layers"]
        other = sorted({layer["type"] for layer in layers} - {"conv", "relu"})
        if other:
            found = ", ".join(other)
            raise UserError(f"{path}: layers of type {found}; expected conv (batch norm merged) and relu")
        convs = [layer["weights"] for layer in layers if layer["type"] == "conv"]
        return "DnCNN", chain("noise", convs)
    if "model" in content and {"weight", "bias"} <= content["model"].keys():
        convs = zip(content["model"]["weight"], content["model"]["bias"], strict=True)
        return "VDSR", chain("residual", list(convs))
    names = {"extract": "conv1", "enhance": "conv2", "map": "conv22", "reconstruct": "conv3"}
    if all(f"{kind}_{name}" in content for name in names.values() for kind in ("weights", "biases")):
        state = {}
        for ours, name in names.items():
            weight, bias = content[f"weights_{name}"], content[f"biases_{name}"]
            inputs, pixels, outputs = np.atleast_3d(weight).shape
            side = round(pixels**0.5)  # the kernel's pixels are listed column by column
            kernel = weight.reshape(inputs, side, side, outputs, order="F").transpose(1, 2, 0, 3)
            state |= convolution(ours, kernel, bias)
        return "ARCNN", state
    raise UserError(
        f"{path}: no known weights: it holds {', '.join(sorted(content)) or 'nothing'}; expected net "
        "(MatConvNet), model (VDSR) or weights_conv1, weights_conv2, weights_conv22, weights_conv3 (ARCNN)"
    )


def chain(name: str, convs: list[tuple[np.ndarray, np.ndarray]]) -> State:
    """The convolutions of a sequence that alternates them with ReLUs."""
    state = {}
    for i, (weight, bias) in enumerate(convs):
        state |= convolution(f"{name}.{2 * i}", weight, bias)
    return state


def convolution(name: str, weight: np.ndarray, bias: np.ndarray) -> State:
    """Tensors of a layer from MATLAB's (height, width, in, out), which leaves out last axes of size 1."""
    kernels = weight.reshape(*weight.shape[:2], -1, bias.size, order="F").transpose(3, 2, 0, 1)
    arrays = {f"{name}.weight": kernels, f"{name}.bias": bias.ravel()}
    return {key: torch.from_numpy(array.astype(np.float32, order="C")) for key, array in arrays.items()}


# Checking


def check(model: nn.Module, architecture: str | None, state: State, path: Path) -> None:
    """Raise a UserError unless the file's tensors are the model's, key by key and shape by shape."""
    own = model.state_dict()
    shapes = {key: [s[key].shape if key in s else None for s in (own, state)] for key in {**own, **state}}
    differences = [
        f"{key}: model {describe(model_shape)}, file {describe(file_shape)}"
        for key, (model_shape, file_shape) in shapes.items()
        if model_shape != file_shape
    ]
    if not differences:
        return
    name = next((c.__name__ for c in type(model).__mro__ if c.__name__ in OWN), type(model).__name__)
    if architecture is None and sum(key in own for key in state) < len(own) / 2:
        keys = ", ".join(f"{key} {describe(value.shape)}" for key, value in list(state.items())[:3])
        raise UserError(f"{path}: weights of an unknown architecture, not of {name}; they start with {keys}")
    if architecture not in (None, name):
        raise UserError(f"{path}: weights of {architecture}, but the model is {name}")
    more = f"; {len(differences) - 2} more differ" if len(differences) > 2 else ""
    raise UserError(f"{path}: weights of {name} in other sizes: {'; '.join(differences[:2])}{more}")


def describe(shape: torch.Size | None) -> str:
    return "has none" if shape is None else str(tuple(shape))
