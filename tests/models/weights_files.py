"""Weights files of every layout, for the tests that read them."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.io
import torch
from torch import nn

from nsr_cli.errors import UserError
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.weights import load_weights


def small_dncnn() -> DnCNN:
    return DnCNN(layers=3, width=4)


def own(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def refusal(model: nn.Module, path) -> str:
    """The message of the refusal, which is one line that starts with the path and has left the model alone."""
    before = own(model)
    with pytest.raises(UserError) as error:
        load_weights(model, path)
    assert_same(model, before)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message.replace(f"{path}: ", "")


def edsr_release(scale: int, blocks: int, units: int) -> dict[str, torch.Tensor]:
    """A state dict under the names of EDSR-PyTorch, fixed mean shifts included."""
    factors = {2: (2,), 3: (3,), 4: (2, 2)}[scale]
    convs = {"head.0": (units, 3)}
    convs |= {f"body.{i}.body.{j}": (units, units) for i in range(blocks) for j in (0, 2)}
    convs |= {f"body.{blocks}": (units, units), "tail.1": (3, units)}
    convs |= {f"tail.0.{2 * i}": (factor**2 * units, units) for i, factor in enumerate(factors)}
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    state = {f"{name}_mean.weight": torch.eye(3).view(3, 3, 1, 1) for name in ("sub", "add")}
    state |= {"sub_mean.bias": -mean, "add_mean.bias": mean}
    for name, shape in convs.items():
        state[f"{name}.weight"] = torch.randn(*shape, 3, 3) / (9 * shape[1]) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0])
    return state


def nsr_release(blocks: int, units: int, wide: int, k: int, d: int, scale: int, channels: int) -> dict:
    """A state dict under the names of the NSR authors' checkpoints; k = 0 for one without sparse layers."""
    convs = {"body.0": (units, channels, 3), f"body.{blocks + 1}": (scale**2 * channels, units, 3)}
    if scale > 1:
        convs["skip.0"] = (scale**2 * channels, channels, 5)
    for i in range(1, blocks + 1):
        convs |= {f"body.{i}.body.0": (wide, units, 3), f"body.{i}.body.2": (units, wide, 3)}
    state = {}
    for name, (out, inputs, side) in convs.items():
        sparse = k > 0 and ".body." in name
        out *= k if sparse else 1
        state[f"{name}.bias"] = torch.randn(out) / 10
        state[f"{name}.weight_g"] = torch.rand(out, 1, 1, 1) + 0.5
        state[f"{name}.weight_v"] = torch.randn(out, inputs, side, side)
        if sparse:
            state[f"{name}.mlp.0.weight"] = torch.randn(k * d, inputs)
            state[f"{name}.mlp.0.bias"] = torch.randn(k * d)
    return state


def matlab_convs(channels: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Three convolutions as MATLAB holds them: (height, width, in, out) and (out, 1), in column-major order."""
    rng = np.random.default_rng(0)
    sides = [channels, 4, 4, channels]
    kernels = [rng.standard_normal((3, 3, a, b)).astype(np.float32) for a, b in pairwise(sides)]
    if channels == 1:
        kernels[-1] = kernels[-1][..., 0]  # MATLAB drops a last axis of size 1
    return [
        (kernel, rng.standard_normal((n, 1)).astype(np.float32)) for kernel, n in zip(kernels, sides[1:], strict=True)
    ]


def cell(values: list) -> np.ndarray:
    array = np.empty((1, len(values)), dtype=object)
    for i, value in enumerate(values):
        array[0, i] = value
    return array


def save_matconvnet5(path, layers: list[dict]) -> None:
    layers = [{k: cell(list(v)) if k == "weights" else v for k, v in layer.items()} for layer in layers]
    scipy.io.savemat(path, {"net": {"layers": cell(layers)}}, appendmat=False)


def save_matconvnet73(path, layers: list[dict]) -> None:
    """The same as MATLAB's `save -v7.3` lays it out: cells are references, and axes are reversed."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        pool = file.create_group("#refs#")

        def refer(name, value):
            pool.create_dataset(name, data=value)
            return pool[name].ref

        cells = []
        for i, layer in enumerate(layers):
            group = pool.create_group(f"layer{i}")
            group.create_dataset("type", data=np.array([[ord(c)] for c in layer["type"]], np.uint16))
            group["type"].attrs["MATLAB_class"] = np.bytes_("char")
            if "weights" in layer:
                references = [[refer(f"layer{i}_{j}", array.T)] for j, array in enumerate(layer["weights"])]
                group.create_dataset("weights", data=references, dtype=h5py.ref_dtype)
            cells.append([group.ref])
        file.create_group("net").create_dataset("layers", data=cells, dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


def matconvnet_layers(channels: int) -> list[dict]:
    layers = [{"type": "conv", "weights": conv} for conv in matlab_convs(channels)]
    return [layers[0], {"type": "relu"}, layers[1], {"type": "relu"}, layers[2]]
