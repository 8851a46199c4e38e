"""Published weights: every release is known by its content and computes what its authors' code does."""

import sys

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from weights_files import (
    assert_same,
    cell,
    edsr_release,
    matconvnet_layers,
    matlab_convs,
    nsr_release,
    own,
    refusal,
    save_matconvnet5,
    save_matconvnet73,
    small_dncnn,
)

from nsr_cli.models.arcnn import ARCNN
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.edsr import EDSR
from nsr_cli.models.vdsr import VDSR
from nsr_cli.models.wdsr import WDSR
from nsr_cli.models.weights import load_weights


def test_kair_names(tmp_path):
    source, model = small_dncnn(), small_dncnn()
    torch.save({key.replace("noise.", "model."): v for key, v in source.state_dict().items()}, tmp_path / "w")
    load_weights(model, tmp_path / "w")
    assert_same(model, own(source))


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


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsr_files_are_the_same_edsr_by_other_names(tmp_path, scale):
    """The names of edsr_arch.py in BasicSR and traiNNer-redux, whose forward pass is that of EDSR-PyTorch."""
    source, model = (EDSR(scale, blocks=3, units=4) for _ in range(2))
    theirs = {
        "head.": "conv_first.",
        "body_end.": "conv_after_body.",
        "tail.": "conv_last.",
        "upsample.1": "upsample.2",
    }
    state = source.state_dict()
    for ours, name in theirs.items():
        state = {key.replace(ours, name): value for key, value in state.items()}
    torch.save({"params": dict.fromkeys(state, torch.zeros(1)), "params_ema": state}, tmp_path / "w")
    assert load_weights(model, tmp_path / "w").architecture == "EDSR"
    assert_same(model, own(source))
    message = refusal(WDSR(scale, blocks=3, units=4), tmp_path / "w")
    assert message == "weights of EDSR, but the model is WDSR"


def test_edsr_of_another_range_is_refused(tmp_path):
    state = edsr_release(2, blocks=1, units=4)
    state["sub_mean.bias"] /= 255
    torch.save(state, tmp_path / "w")
    message = refusal(EDSR(2, blocks=1, units=4), tmp_path / "w")
    assert message.startswith("EDSR of another mean or range: sub_mean.bias is [-0.44")


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
