"""Files that are no weights, damaged, or programs: one line each, nothing copied and nothing run."""

import argparse
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from weights_files import assert_same, matconvnet_layers, own, refusal, save_matconvnet5, save_matconvnet73, small_dncnn

from nsr_cli.errors import UserError
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.weights import load_weights
from nsr_cli.regular import file_sha256


def test_a_missing_file(tmp_path):
    assert refusal(small_dncnn(), tmp_path / "w") == f"no weights file {tmp_path / 'w'}"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(small_dncnn(), tmp_path) == f"cannot read {tmp_path}: a folder, not a file".replace(
        f"{tmp_path}: ", ""
    )
    for path in (tmp_path / "pipe", "/dev/zero"):
        message = "cannot read a device, a pipe or a socket, not a regular file"
        assert refusal(small_dncnn(), path) == message
        with pytest.raises(UserError, match=rf"^cannot read {path}: a device, a pipe or a socket, not a regular file$"):
            file_sha256(path)
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}/nothing: No such file or directory$"):
        file_sha256(tmp_path / "nothing")
    (tmp_path / "w").write_bytes(b"abc")  # the digest is that of FIPS 180-2, Appendix B.1
    assert file_sha256(tmp_path / "w").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_any_changed_bit_of_a_pytorch_file_is_refused_or_changes_nothing(tmp_path):
    source, path = nn.Linear(3, 2), tmp_path / "w"
    torch.save({"model": source.state_dict(), "step": 7}, path)
    whole, refused = path.read_bytes(), 0
    with zipfile.ZipFile(path) as archive:
        data = [member for member in archive.infolist() if "/data/" in member.filename]
    inside = {at for m in data for at in range(m.header_offset + 96, m.header_offset + 96 + m.file_size, 3)}
    for at in sorted({*inside, *range(0, len(whole), 29)}):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        model = nn.Linear(3, 2)
        before = own(model)
        try:
            load_weights(model, path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            assert_same(model, before)
        else:
            assert_same(model, own(source))
    assert refused > 20


def test_a_changed_bit_of_a_tensor_is_named(tmp_path):
    source = small_dncnn()
    torch.save(source.state_dict(), tmp_path / "w")
    whole = bytearray((tmp_path / "w").read_bytes())
    at = whole.index(source.noise[2].weight.detach().numpy().tobytes())
    whole[at] ^= 1
    (tmp_path / "w").write_bytes(whole)
    assert refusal(small_dncnn(), tmp_path / "w") == "damaged: wrong checksum of w/data/2"


def test_numbers_that_torch_would_not_read_are_refused(tmp_path):
    """A single bit marks a part of the zip as a folder; torch then leaves the memory of its tensor as it is."""
    torch.save(small_dncnn().state_dict(), tmp_path / "w")
    whole = bytearray((tmp_path / "w").read_bytes())
    whole[whole.rindex(b"w/data/2") - 8] ^= 16  # external attributes, in the central directory
    (tmp_path / "w").write_bytes(whole)
    assert refusal(small_dncnn(), tmp_path / "w") == "damaged: w/data/2 is marked as a folder"


def test_a_small_zip_that_unpacks_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(10**6))
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message == "not as torch.save writes it: it unpacks to 1,000,000 bytes, more than it has"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    state = {key: tensor.double() for key, tensor in small_dncnn().state_dict().items()}
    state["noise.2.weight"][3, 1, 0, 2] = value
    torch.save(state, tmp_path / "w")
    message = refusal(small_dncnn(), tmp_path / "w")
    assert message == "weights of DnCNN with NaN or infinite numbers in noise.2.weight"


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n", b"version https://git-lfs"])
def test_files_that_are_no_weights(tmp_path, content):
    (tmp_path / "w.mat").write_bytes(content)
    message = refusal(small_dncnn(), tmp_path / "w.mat")
    assert message.startswith("not network weights; expected a MATLAB .mat file (5 or 7.3), a PyTorch checkpoint or ")
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


def test_a_program_of_torch_export_is_named(tmp_path):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "w.pt2")
    message = refusal(small_dncnn(), tmp_path / "w.pt2")
    assert message.startswith("a program of torch.export; expected a MATLAB .mat file")
    assert message.endswith(".safetensors, which `nsr export` writes too")


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
