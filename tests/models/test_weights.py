"""Weights: every published layout by content, every kind of wrong file by one line, and nothing copied by halves."""

import argparse
import os
import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from torch import nn

from nsr_cli.errors import UserError
from nsr_cli.models.arcnn import ARCNN
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.edsr import EDSR
from nsr_cli.models.vdsr import VDSR
from nsr_cli.models.wdsr import WDSR
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


# PyTorch files


@pytest.mark.parametrize("container", [None, "state_dict", "params", "params_ema", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_plain_or_contained(tmp_path, container, prefix, zipped):
    source, model = small_dncnn(), small_dncnn()
    content = {prefix + key: value for key, value in source.state_dict().items()}
    if container:
        content = {"epoch": 3, container: content, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "any.name", _use_new_zipfile_serialization=zipped)
    load_weights(model, tmp_path / "any.name")
    assert_same(model, own(source))


def test_the_averaged_weights_are_preferred(tmp_path):
    plain, averaged, model = small_dncnn(), small_dncnn(), small_dncnn()
    torch.save({"params": plain.state_dict(), "params_ema": averaged.state_dict()}, tmp_path / "w")
    load_weights(model, tmp_path / "w")
    assert_same(model, own(averaged))


def test_precision_and_path_may_differ(tmp_path):
    source, model = small_dncnn().half(), small_dncnn()
    torch.save(source.state_dict(), tmp_path / "w")
    load_weights(model, str(tmp_path / "w"))
    assert_same(model, own(source.float()))


@pytest.mark.parametrize(
    "build",
    [
        lambda: WDSR(2, blocks=2, units=8, width=2, sparsity_groups=2, cardinality=4, gate="softmax"),
        lambda: WDSR(1, channels=1, blocks=1, units=8, width=2),
        lambda: EDSR(4, blocks=2, units=4),
        lambda: VDSR(2, layers=3, width=4),
        lambda: DnCNN(layers=4, width=4, batch_norm=True),
        ARCNN,
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        lambda: nn.ModuleDict({"model": nn.ModuleList([nn.Conv2d(1, 1, 3) for _ in range(3)])}),  # names as KAIR's
    ],
)
def test_own_checkpoints_load_back(tmp_path, build):
    source, model = build(), build()
    torch.save({"model": source.state_dict(), "step": 7}, tmp_path / "w")
    load_weights(model, tmp_path / "w")
    assert_same(model, own(source))


def test_kair_names(tmp_path):
    source, model = small_dncnn(), small_dncnn()
    torch.save({key.replace("noise.", "model."): v for key, v in source.state_dict().items()}, tmp_path / "w")
    load_weights(model, tmp_path / "w")
    assert_same(model, own(source))


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


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_pytorch_files_compute_what_the_release_does(tmp_path, scale):
    state = edsr_release(scale, blocks=2, units=4)
    torch.save(state, tmp_path / "w")
    model = EDSR(scale, blocks=2, units=4, residual_scale=0.1)
    load_weights(model, tmp_path / "w")

    def conv(x, name, padding=1):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    image = torch.rand(2, 3, 6, 5)
    start = x = conv(conv(255 * image, "sub_mean", padding=0), "head.0")
    for i in range(2):
        x = x + 0.1 * conv(F.relu(conv(x, f"body.{i}.body.0")), f"body.{i}.body.2")
    x = start + conv(x, "body.2")
    for i in range(2 if scale == 4 else 1):
        x = F.pixel_shuffle(conv(x, f"tail.0.{2 * i}"), 3 if scale == 3 else 2)
    expected = conv(conv(x, "tail.1"), "add_mean", padding=0)
    torch.testing.assert_close(255 * model(image), expected, rtol=1e-4, atol=1e-2)


def test_edsr_of_another_range_is_refused(tmp_path):
    state = edsr_release(2, blocks=1, units=4)
    state["sub_mean.bias"] /= 255
    torch.save(state, tmp_path / "w")
    message = refusal(EDSR(2, blocks=1, units=4), tmp_path / "w")
    assert message.startswith("EDSR of another mean or range: sub_mean.bias is [-0.44")


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


@pytest.mark.parametrize(("k", "d", "scale", "channels"), [(3, 2, 2, 3), (2, 4, 3, 3), (0, 0, 4, 3), (2, 1, 1, 1)])
def test_nsr_checkpoints_compute_what_the_equations_say(tmp_path, k, d, scale, channels):
    state = nsr_release(blocks=2, units=4, wide=8, k=k, d=d, scale=scale, channels=channels)
    torch.save({"epoch": 30, "model_state_dict": state, "loss": torch.tensor(0.1)}, tmp_path / "epoch_30.pth")
    sparsity = {"sparsity_groups": k, "cardinality": d, "gate": "softmax"} if k else {}
    model = WDSR(scale, channels, blocks=2, units=4, width=2, **sparsity).eval()
    load_weights(model, tmp_path / "epoch_30.pth")

    def conv(x, name):  # of one image; a sparse layer mixes kernels group by group, channel by channel
        g, v, bias = (state[f"{name}.{part}"] for part in ("weight_g", "weight_v", "bias"))
        weight = g * v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        if f"{name}.mlp.0.weight" in state:
            logits = state[f"{name}.mlp.0.weight"] @ x.mean(dim=(0, 2, 3)) + state[f"{name}.mlp.0.bias"]
            gate = logits.view(k, d).softmax(dim=0)
            out = len(weight) // k
            mixed = [[gate[i, c * d // out] for i in range(k)] for c in range(out)]
            bias = torch.stack([sum(mixed[c][i] * bias[i * out + c] for i in range(k)) for c in range(out)])
            weight = torch.stack([sum(mixed[c][i] * weight[i * out + c] for i in range(k)) for c in range(out)])
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    image = torch.rand(1, channels, 7, 6)
    x = conv(image - 0.5, "body.0")
    for i in (1, 2):
        x = x + conv(F.relu(conv(x, f"body.{i}.body.0")), f"body.{i}.body.2")
    x = conv(x, "body.3") + (conv(image - 0.5, "skip.0") if scale > 1 else image - 0.5)
    torch.testing.assert_close(model(image), F.pixel_shuffle(x, scale) + 0.5, rtol=1e-4, atol=1e-4)


# MATLAB files


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


@pytest.mark.parametrize("save", [save_matconvnet5, save_matconvnet73])
@pytest.mark.parametrize("channels", [1, 3])
def test_matconvnet_files_of_both_versions(tmp_path, save, channels):
    save(tmp_path / "w", matconvnet_layers(channels))
    model = DnCNN(layers=3, width=4, channels=channels)
    load_weights(model, tmp_path / "w")
    for i, (kernel, bias) in enumerate(matlab_convs(channels)):
        kernel = kernel.reshape(*kernel.shape[:3], -1)
        conv = model.noise[2 * i]
        for row, column, a, b in np.ndindex(kernel.shape):
            assert conv.weight[b, a, row, column] == float(kernel[row, column, a, b])
        assert conv.bias.tolist() == bias.ravel().tolist()


def test_vdsr_files(tmp_path):
    kernels, biases = zip(*matlab_convs(), strict=True)
    content = {"model": {"weight": cell(list(kernels)), "bias": cell(list(biases))}}
    scipy.io.savemat(tmp_path / "w", content, appendmat=False)
    model, same_numbers = VDSR(2, layers=3, width=4), DnCNN(layers=3, width=4)
    load_weights(model, tmp_path / "w")
    save_matconvnet5(tmp_path / "dncnn", matconvnet_layers(1))
    load_weights(same_numbers, tmp_path / "dncnn")
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), same_numbers.parameters(), strict=True))
    # 20 layers x 64 of one are 20 x 64 of the other, but one adds what the other subtracts
    assert refusal(same_numbers, tmp_path / "w") == "weights of VDSR, but the model is DnCNN"
    assert refusal(model, tmp_path / "dncnn") == "weights of DnCNN, but the model is VDSR"


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    save_matconvnet73(tmp_path / "w", matconvnet_layers(1))
    monkeypatch.setitem(sys.modules, "h5py", None)
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message.startswith("MATLAB 7.3 files need the package h5py: pip install nsr[mat]")


def test_unmerged_batch_norm_is_refused(tmp_path):
    save_matconvnet5(tmp_path / "w", [*matconvnet_layers(1), {"type": "bnorm"}])
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message == "layers of type bnorm; expected conv (batch norm merged) and relu"


def test_other_matlab_files(tmp_path):
    scipy.io.savemat(tmp_path / "w", {"images": np.ones(3), "set": 1.0}, appendmat=False)
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message.startswith("no known weights: it holds images, set; expected net (MatConvNet), model (VDSR) or")
    layers = matconvnet_layers(1)
    layers[0]["weights"] = (np.ones((3, 3, 5)), np.ones((4, 1)))
    save_matconvnet5(tmp_path / "v", layers)
    assert refusal(small_dncnn(), tmp_path / "v").startswith("arrays that do not fit together as a network (")


def test_files_as_published(nsr_data):
    pytest.importorskip("h5py")
    weights = nsr_data / "weights"
    for name in ("sigma15.mat", "sigma25.mat", "sigma50.mat", "sigma25_kair.pth"):
        load_weights(DnCNN(), weights / "dncnn" / name)
    load_weights(DnCNN(layers=20), weights / "dncnn" / "dncnn3.mat")
    load_weights(VDSR(4), weights / "vdsr" / "vdsr_official.mat")
    message = refusal(DnCNN(layers=20), weights / "vdsr" / "vdsr_official.mat")
    assert message == "weights of VDSR, but the model is DnCNN"
    message = refusal(DnCNN(), weights / "dncnn" / "dncnn3.mat")
    assert message == (
        "weights of DnCNN in other sizes: noise.32.weight: model (1, 64, 3, 3), file (64, 64, 3, 3); "
        "noise.32.bias: model (1,), file (64,); 6 more differ"
    )
    for quality in (10, 20, 30, 40):
        load_weights(ARCNN(), weights / "arcnn" / f"q{quality}.mat")


# Wrong files


def test_other_sizes_are_named(tmp_path):
    torch.save({"model": EDSR(2, blocks=2, units=4).state_dict()}, tmp_path / "w")
    assert refusal(EDSR(4, blocks=2, units=4), tmp_path / "w") == (
        "weights of EDSR in other sizes: upsample.1.weight: model (16, 4, 3, 3), file has none; "
        "upsample.1.bias: model (16,), file has none"
    )
    assert refusal(EDSR(2, blocks=1, units=8), tmp_path / "w") == (
        "weights of EDSR in other sizes: head.weight: model (8, 3, 3, 3), file (4, 3, 3, 3); "
        "head.bias: model (8,), file (4,); 13 more differ"
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (lambda: WDSR(2, blocks=1, units=4), "WDSR"),
        (lambda: EDSR(2, blocks=1, units=4), "EDSR"),
        (lambda: VDSR(2, layers=3, width=4), "VDSR"),
        (ARCNN, "ARCNN"),
    ],
)
def test_another_architecture_is_named(tmp_path, source, name):
    torch.save({"model": source().state_dict()}, tmp_path / "w")
    assert refusal(small_dncnn(), tmp_path / "w") == f"weights of {name}, but the model is DnCNN"


def test_releases_of_another_architecture_are_named(tmp_path):
    torch.save(edsr_release(2, blocks=1, units=4), tmp_path / "edsr")
    torch.save({"model_state_dict": nsr_release(1, 4, 8, 2, 2, 2, 3)}, tmp_path / "nsr")
    torch.save({key.replace("noise", "model"): v for key, v in small_dncnn().state_dict().items()}, tmp_path / "kair")
    for model, architecture, file in ((WDSR(2), "EDSR", "edsr"), (EDSR(2), "WDSR", "nsr"), (ARCNN(), "DnCNN", "kair")):
        expected = f"weights of {architecture}, but the model is {type(model).__name__}"
        assert refusal(model, tmp_path / file) == expected


def test_an_unknown_architecture_is_shown(tmp_path):
    torch.save({"conv1.weight": torch.ones(64, 3, 7, 7), "fc.bias": torch.ones(10)}, tmp_path / "w")
    assert refusal(small_dncnn(), tmp_path / "w") == (
        "weights of an unknown architecture, not of DnCNN; they start with conv1.weight (64, 3, 7, 7), fc.bias (10,)"
    )


def test_a_missing_file(tmp_path):
    assert refusal(small_dncnn(), tmp_path / "w") == f"no weights file {tmp_path / 'w'}"
    assert refusal(small_dncnn(), tmp_path) == f"no weights file {tmp_path}"


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n", b"version https://git-lfs"])
def test_files_that_are_no_weights(tmp_path, content):
    (tmp_path / "w.mat").write_bytes(content)
    message = refusal(small_dncnn(), tmp_path / "w.mat")
    assert message.startswith("not network weights; expected a MATLAB .mat file (5 or 7.3) or a PyTorch checkpoint")
    assert message.endswith(f"it starts with {content[:24]!r}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3), "not network weights: it holds a Tensor, not named tensors"),
        ({}, "not network weights: it holds a dict, not named tensors"),
        ({"step": 3, "lr": 0.1}, "not network weights: 'step' holds int, not a dense tensor"),
        ({3: torch.ones(3)}, "not network weights: 3 holds Tensor, not a dense tensor"),
        ({"a": torch.eye(3).to_sparse()}, "not network weights: 'a' holds Tensor, not a dense tensor"),
    ],
)
def test_pytorch_files_that_are_no_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "w")
    assert refusal(small_dncnn(), tmp_path / "w") == message


def test_a_container_that_contains_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "w")
    assert "'model' holds dict" in refusal(small_dncnn(), tmp_path / "w")


def save_matconvnet_cut(path) -> None:
    save_matconvnet5(path, matconvnet_layers(1))
    path.write_bytes(path.read_bytes()[:-100])


def save_hdf5_cut(path) -> None:
    save_matconvnet73(path, matconvnet_layers(1))
    path.write_bytes(path.read_bytes()[:-100])


def save_torch_cut(path) -> None:
    torch.save(small_dncnn().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_hdf5_loop(path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("net")
        group["net"] = group


def save_numpy(path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


@pytest.mark.parametrize(
    "save",
    [
        save_matconvnet_cut,
        save_hdf5_cut,
        save_torch_cut,
        save_hdf5_loop,
        lambda path: path.write_bytes(b"\x80\x02junkjunk"),
        lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file, but no more"),
        save_numpy,
    ],
)
def test_damaged_files(tmp_path, save):
    save(tmp_path / "w")
    assert refusal(small_dncnn(), tmp_path / "w").startswith("not network weights, or damaged; expected a MATLAB")


class Bomb:
    """Pickled, a call of os.mkdir; loading it as code leaves a folder behind."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_run(tmp_path, zipped):
    content = {"model": small_dncnn().state_dict(), "bomb": Bomb(tmp_path / "ran")}
    torch.save(content, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message.startswith(f"refused, because to load it is to run code that it names ({os.name}.mkdir); save the")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_and_not_run(tmp_path, protocol):
    (tmp_path / "w").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol))
    assert refusal(small_dncnn(), tmp_path / "w").startswith("refused, because to load it is to run code that it names")
    assert not (tmp_path / "ran").exists()


def test_whole_models_and_settings_objects_are_refused(tmp_path):
    torch.save(small_dncnn(), tmp_path / "model")
    assert "(nsr_cli.models.dncnn.DnCNN); save the tensors alone" in refusal(small_dncnn(), tmp_path / "model")
    torch.save({"model": small_dncnn().state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "args")
    assert "(argparse.Namespace); save the tensors alone" in refusal(small_dncnn(), tmp_path / "args")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "w")
    assert "(a TorchScript program); save the tensors alone" in refusal(small_dncnn(), tmp_path / "w")


def test_a_small_file_that_claims_to_hold_a_huge_array_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "bomb.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(40000, 40000), dtype="f4", fillvalue=1.0, chunks=(100, 100))
    with pytest.raises(UserError, match="more than any weights"):
        load_weights(DnCNN(), path)
