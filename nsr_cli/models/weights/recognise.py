"""Recognising weights: the published releases of each architecture, and the renaming of their tensors to our names."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nsr_cli.errors import UserError
from nsr_cli.models.edsr import DIV2K_MEAN

State = dict[str, Tensor]


@dataclass(frozen=True)
class Release:
    """A published form of an architecture's weights.

    Attributes:
        recognised: tells whether the content of a file is of this release.
        renamed: takes the content of the file; returns tensors with our names.
        tile: side of the degraded training patches in pixels; None if unknown.
    """

    recognised: Callable[[dict[str, Any]], bool]
    renamed: Callable[[dict[str, Any]], State]
    tile: int | None = None


@dataclass(frozen=True)
class Architecture:
    """A class of this package, a key prefix that only its state dict has, and its releases."""

    name: str
    key_prefix: str
    releases: tuple[Release, ...] = ()


def has_tensors(*keys: str) -> Callable[[dict[str, Any]], bool]:
    """A test of whether a state dict has tensors under all these keys."""
    return lambda content: all(isinstance(content.get(key), Tensor) for key in keys)


def rename_modules(content: State, modules: dict[str, str], parameters: dict[str, str] | None = None) -> State:
    """A state dict with renamed modules and parameters, both given as {the release's name: our name}."""
    state = {}
    for key, value in content.items():
        theirs = next((module for module in modules if key.startswith(f"{module}.")), None)
        if theirs is not None:
            parameter = key.removeprefix(f"{theirs}.")
            key = f"{modules[theirs]}.{(parameters or {}).get(parameter, parameter)}"
        state[key] = value
    return state


def block_modules(content: State, first: int) -> dict[str, str]:
    """{theirs: ours} of the blocks' convolutions; NSR's authors and EDSR-PyTorch differ only in the first number."""
    blocks = sum(re.fullmatch(r"body\.\d+\.body\.0\.bias", key) is not None for key in content)
    return {f"body.{first + i}.body.{j}": f"body.{i}.conv{1 + j // 2}" for i in range(blocks) for j in (0, 2)}


# WDSR, as the authors of the NSR paper release it


def from_nsr_authors(content: State) -> State:
    inside = block_modules(content, first=1)
    modules = {"body.0": "head", **inside, f"body.{len(inside) // 2 + 1}": "tail", "skip.0": "skip"}
    parameters = {
        "weight_g": "parametrizations.weight.original0",
        "weight_v": "parametrizations.weight.original1",
        "mlp.0.weight": "gate.linear.weight",
        "mlp.0.bias": "gate.linear.bias",
    }
    return rename_modules(content, modules, parameters)


WDSR = Architecture(
    "WDSR",
    "body.0.conv1.parametrizations.",
    (Release(has_tensors("body.0.weight_v", "body.1.body.0.weight_v"), from_nsr_authors, tile=48),),
)


# EDSR, as EDSR-PyTorch releases it


def from_edsr_pytorch(content: State) -> State:
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):  # fixed layers, which are constants of our EDSR
        expected = sign * 255 * torch.tensor(DIV2K_MEAN)
        shift = content.get(f"{name}.bias", expected).float()
        if shift.shape != expected.shape or not torch.allclose(shift, expected):
            found = f"{name}.bias is {shift.tolist()}, expected {expected.tolist()}"
            raise UserError(f"EDSR of another mean or range: {found}")
    content = {key: value for key, value in content.items() if not key.startswith(("sub_mean.", "add_mean."))}
    inside = block_modules(content, first=0)
    modules = {"head.0": "head", f"body.{len(inside) // 2}": "body_end", "tail.1": "tail", **inside}
    return rename_modules(content, {**modules, "tail.0.0": "upsample.0", "tail.0.2": "upsample.1"})


# EDSR, as BasicSR and traiNNer-redux release it; most of its tensors have our names

BASICSR_EDSR = {"conv_first": "head", "conv_after_body": "body_end", "conv_last": "tail", "upsample.2": "upsample.1"}
is_basicsr_edsr = has_tensors("conv_first.weight", "body.0.conv1.weight", "conv_after_body.weight", "upsample.0.weight")


EDSR = Architecture("EDSR", "body_end.", (Release(has_tensors("head.0.weight", "tail.0.0.weight"), from_edsr_pytorch),))


# DnCNN, as its authors (MatConvNet) and KAIR release it


def is_matconvnet(content: dict[str, Any]) -> bool:
    return isinstance(content.get("net"), dict) and "layers" in content["net"]


def from_matconvnet(content: dict[str, Any]) -> State:
    layers = content["net"]["layers"]
    other = sorted({layer["type"] for layer in layers} - {"conv", "relu"})
    if other:
        found = ", ".join(other)
        raise UserError(f"layers of type {found}; expected conv (batch norm merged) and relu")
    return sequence_state("noise", [layer["weights"] for layer in layers if layer["type"] == "conv"])


def from_kair(content: State) -> State:
    return rename_modules(content, {"model": "noise"})


DNCNN = Architecture(
    "DnCNN",
    "noise.",
    (Release(has_tensors("model.0.weight", "model.2.weight"), from_kair), Release(is_matconvnet, from_matconvnet)),
)


# VDSR and ARCNN, as their authors release them (MATLAB)


def is_vdsr(content: dict[str, Any]) -> bool:
    return isinstance(content.get("model"), dict) and {"weight", "bias"} <= content["model"].keys()


def from_vdsr(content: dict[str, Any]) -> State:
    return sequence_state("residual", list(zip(content["model"]["weight"], content["model"]["bias"], strict=True)))


VDSR = Architecture("VDSR", "residual.", (Release(is_vdsr, from_vdsr),))

ARCNN_LAYERS = {"extract": "conv1", "enhance": "conv2", "map": "conv22", "reconstruct": "conv3"}


def is_arcnn(content: dict[str, Any]) -> bool:
    return all(f"{kind}_{name}" in content for name in ARCNN_LAYERS.values() for kind in ("weights", "biases"))


def from_arcnn(content: dict[str, Any]) -> State:
    state = {}
    for ours, name in ARCNN_LAYERS.items():
        weight, bias = content[f"weights_{name}"], content[f"biases_{name}"]
        inputs, pixels, outputs = np.atleast_3d(weight).shape
        side = round(pixels**0.5)  # the kernel's pixels are listed column by column
        kernel = weight.reshape(inputs, side, side, outputs, order="F").transpose(1, 2, 0, 3)
        state |= convolution_state(ours, kernel, bias)
    return state


ARCNN = Architecture("ARCNN", "reconstruct.", (Release(is_arcnn, from_arcnn),))


def sequence_state(name: str, convs: list[tuple[np.ndarray, np.ndarray]]) -> State:
    """The state dict of a sequence of convolutions with ReLUs between them."""
    state = {}
    for i, (weight, bias) in enumerate(convs):
        state |= convolution_state(f"{name}.{2 * i}", weight, bias)
    return state


def convolution_state(name: str, weight: np.ndarray, bias: np.ndarray) -> State:
    """The tensors of a layer from MATLAB's kernels (height, width, in, out), which drop last axes of size 1."""
    kernels = weight.reshape(*weight.shape[:2], -1, bias.size, order="F").transpose(3, 2, 0, 1)
    arrays = {f"{name}.weight": kernels, f"{name}.bias": bias.ravel()}
    return {key: torch.from_numpy(array.astype(np.float32, order="C")) for key, array in arrays.items()}


# Networks inside of checkpoints

ARCHITECTURES = (WDSR, EDSR, DNCNN, VDSR, ARCNN)
TRAINER_KEYS = re.compile(  # keys of trainers beside a network: losses, metrics, discriminators, averages
    r"(n_averaged|discriminator|netD|criterion|perceptual|lpips|vgg|metrics|(net|model|generator)_ema|ema(_\w+)?"
    r"|\w*loss\w*|(train|val|test)_\w+)(\.|$)"
)
MAX_WRAPPERS = 6  # nested wrappers, as in module._orig_mod.net_g.


class Recognised(NamedTuple):
    """The architecture (None if unknown), the tensors with our names, and the side of the training patches."""

    architecture: str | None
    state: State
    tile: int | None = None


def recognise(content: dict[str, Any], own_keys: set[str], path: Path) -> Recognised:
    """Recognise the content of a weights file, also if it wraps the network.

    Args:
        content: tensors or MATLAB's arrays by name.
        own_keys: keys of the model's state dict; content with exactly these, or most of them, is taken as it is.
        path: of the file, for errors.

    Raises:
        UserError: a MATLAB file holds no known weights, or the arrays of a release do not fit together.
    """
    candidates = list(unwrap(content))
    for state in candidates:
        if state.keys() == own_keys:
            return Recognised(architecture_of(state), state)
    nearest = max(candidates, key=lambda state: len(state.keys() & own_keys))
    if 2 * len(nearest.keys() & own_keys) > len(own_keys):  # of the model's class, whatever else has such names
        return Recognised(None, nearest)
    for state in candidates:
        for architecture in ARCHITECTURES:
            for release in architecture.releases:
                if release.recognised(state):
                    return Recognised(architecture.name, _rename_checked(release, state, path), release.tile)
        if name := architecture_of(state):
            return Recognised(name, state)
    if not isinstance(next(iter(content.values()), None), Tensor):
        raise UserError(
            f"{path}: no known weights: it holds {', '.join(sorted(content)) or 'nothing'}; expected net "
            "(MatConvNet), model (VDSR) or weights_conv1, weights_conv2, weights_conv22, weights_conv3 (ARCNN)"
        )
    return Recognised(None, content)


def unwrap(content: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield a state dict, then those inside of it: under a wrapper of any name, with only TRAINER_KEYS beside it."""
    yield content
    if is_basicsr_edsr(content):
        yield rename_modules(content, BASICSR_EDSR)
    for wrapper in dict.fromkeys(key[: key.index(".") + 1] for key in content if "." in key):
        inner = {key.removeprefix(wrapper): value for key, value in content.items() if key.startswith(wrapper)}
        rest = (key for key in content if not key.startswith(wrapper))
        if depth < MAX_WRAPPERS and all(map(TRAINER_KEYS.match, rest)):
            yield from unwrap(inner, depth + 1)


def architecture_of(state: dict[str, Any]) -> str | None:
    """The architecture of this package whose names a state dict uses; None if there is none."""
    return next((a.name for a in ARCHITECTURES if any(key.startswith(a.key_prefix) for key in state)), None)


def _rename_checked(release: Release, content: dict[str, Any], path: Path) -> State:
    try:
        return release.renamed(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: arrays that do not fit together as a network ({error})") from None
