"""Weights: state dicts plain, in checkpoints and wrapped; what they say of themselves; and nothing copied by halves."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weights_files import assert_same, edsr_release, nsr_release, own, refusal, small_dncnn

from nsr_cli.errors import UserError
from nsr_cli.models.arcnn import ARCNN
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.edsr import EDSR
from nsr_cli.models.vdsr import VDSR
from nsr_cli.models.wdsr import WDSR
from nsr_cli.models.weights import Loaded, check_fit, load_fitting_layers, load_weights

KNOWN = ["state_dict", "params", "params_ema", "model", "model_state_dict"]


@pytest.mark.parametrize("container", [None, *KNOWN, "unet_of_ours"])
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


WRAPPERS = ["module.", "_orig_mod.", "net.", "model.", "generator.", "netG.", "params_ema.", "module._orig_mod.net."]
WRAPPERS += ["net_g.", "my_network."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_state_dicts(tmp_path, wrapper):
    source, model = small_dncnn(), small_dncnn()
    kair = {key.replace("noise.", "model."): value for key, value in source.state_dict().items()}
    for state in (source.state_dict(), kair):
        torch.save({wrapper + key: value for key, value in state.items()}, tmp_path / "w")
        assert load_weights(model, tmp_path / "w").architecture == "DnCNN"
        assert_same(model, own(source))
    other, linear = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({wrapper + key: value for key, value in other.state_dict().items()}, tmp_path / "w")
    assert load_weights(linear, tmp_path / "w").architecture == "Linear"
    assert_same(linear, own(other))


def test_wrapped_releases(tmp_path):
    for name, state, model in (
        ("EDSR", edsr_release(2, blocks=1, units=4), EDSR(2, blocks=1, units=4)),
        ("WDSR", nsr_release(1, 4, 8, 0, 0, 2, 3), WDSR(2, blocks=1, units=4, width=2)),
    ):
        torch.save(state, tmp_path / "plain")
        load_weights(model, tmp_path / "plain")
        expected = own(model)
        torch.save({"state_dict": {f"net.module.{key}": value for key, value in state.items()}}, tmp_path / "w")
        model.load_state_dict({key: torch.zeros_like(value) for key, value in expected.items()})
        assert load_weights(model, tmp_path / "w").architecture == name
        assert_same(model, expected)


def test_what_trainers_keep_beside_a_network_is_left_out(tmp_path):
    source, other = small_dncnn(), small_dncnn()
    state = {f"net.{key}": value for key, value in source.state_dict().items()}
    beside = {"loss_fn.vgg.0.weight": torch.ones(3), "n_averaged": torch.tensor(3)}
    beside |= {f"ema_model.{key}": value for key, value in other.state_dict().items()}
    lightning = {"state_dict": state | beside, "epoch": 3, "pytorch-lightning_version": "2.5.0", "callbacks": {}}
    gan = {"generator": source.state_dict(), "discriminator": other.state_dict(), "optimizer": {"lr": 0.1}}
    for content in (lightning, gan):
        model = small_dncnn()
        torch.save(content, tmp_path / "w")
        load_weights(model, tmp_path / "w")
        assert_same(model, own(source))
    torch.save(state | {"head.weight": torch.ones(3)}, tmp_path / "w")  # a part of something larger
    assert refusal(small_dncnn(), tmp_path / "w").startswith("weights of an unknown architecture, not of DnCNN; ")


def test_what_a_file_says_of_itself(tmp_path):
    def said(model: nn.Module, content: dict) -> Loaded:
        torch.save(content, tmp_path / "w")
        return load_weights(model, tmp_path / "w")

    model = small_dncnn()
    own_file = {"model": model.state_dict(), "signature": "ab12", "step": 7, "seconds": 0.5}
    assert said(model, own_file) == Loaded("DnCNN", None, {"signature": "ab12", "step": 7, "seconds": 0.5})
    assert said(model, own_file | {"patch": 40}).tile == 40
    for patch in (0, -1, 10**9, True, 4.5, "x"):
        assert said(model, own_file | {"patch": patch}).tile is None
    assert said(model, {"model": model.state_dict(), "patch": 64}).tile is None  # someone else's patch
    release = {"epoch": 30, "model_state_dict": nsr_release(1, 4, 8, 2, 2, 2, 3)}
    sparse = WDSR(2, blocks=1, units=4, width=2, sparsity_groups=2, cardinality=2, gate="softmax")
    assert said(sparse, release) == Loaded("WDSR", 48, {"epoch": 30})
    assert said(nn.Linear(2, 3), nn.Linear(2, 3).state_dict()) == Loaded("Linear", None)


def test_safetensors(tmp_path):
    source, model = small_dncnn(), small_dncnn()
    save_file(source.state_dict(), tmp_path / "any.name", metadata={"signature": "ab12", "patch": "40"})
    assert load_weights(model, tmp_path / "any.name") == Loaded("DnCNN", 40, {"signature": "ab12", "patch": "40"})
    assert_same(model, own(source))
    save_file({f"net.{key}": value for key, value in source.state_dict().items()}, tmp_path / "w")
    assert load_weights(small_dncnn(), tmp_path / "w") == Loaded("DnCNN", None)
    whole = (tmp_path / "w").read_bytes()
    for cut in (9, 100, len(whole) - 1):
        (tmp_path / "w").write_bytes(whole[:cut])
        assert refusal(small_dncnn(), tmp_path / "w").startswith("not network weights, or damaged; expected ")
    save_file({}, tmp_path / "w")
    assert refusal(small_dncnn(), tmp_path / "w") == "not network weights: it holds no tensors"


@pytest.mark.parametrize(
    "names", [("params", "params_ema"), ("model", "model_ema"), ("state_dict", "ema_state_dict"), ("net", "ema")]
)
def test_the_averaged_weights_are_preferred(tmp_path, names):
    plain, averaged, model = small_dncnn(), small_dncnn(), small_dncnn()
    torch.save(dict(zip(names, (plain.state_dict(), averaged.state_dict()), strict=True)), tmp_path / "w")
    load_weights(model, tmp_path / "w")
    assert_same(model, own(averaged))


def test_two_networks_under_unknown_names_are_named(tmp_path):
    one, other, model = small_dncnn(), small_dncnn(), small_dncnn()
    torch.save({"teacher": one.state_dict(), "student": other.state_dict(), "step": 3}, tmp_path / "w")
    with pytest.raises(UserError, match=r"holds 2 networks \(teacher, student\); expected one, or one named "):
        load_weights(model, tmp_path / "w")


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


class Mine(nn.Module):
    """With the names of EDSR-PyTorch and of KAIR's DnCNN; ``factors`` of the scale make layers."""

    def __init__(self, *factors: int):
        super().__init__()
        self.head, self.model = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(*[nn.Conv2d(4, 4, 3)] * 3)
        ups = [layer for factor in factors for layer in (nn.Conv2d(4, 4 * factor**2, 3), nn.PixelShuffle(factor))]
        self.tail = nn.Sequential(nn.Sequential(*ups), nn.Conv2d(4, 3, 3))


@pytest.mark.parametrize("wrapper", ["", "module.model."])
def test_layers_of_ones_own_network_with_names_of_releases(tmp_path, wrapper):
    """Once refused as weights of EDSR where the scale adds a layer, and none was found where they are wrapped."""
    source, model = Mine(2), Mine(2, 2)
    torch.save({wrapper + key: value for key, value in source.state_dict().items()}, tmp_path / "w")
    assert load_fitting_layers(model, tmp_path / "w") == ["tail.0.2"]
    assert torch.equal(model.head[0].weight, source.head[0].weight)
    assert refusal(model, tmp_path / "w").startswith("weights of Mine in other sizes: tail.0.2.weight: model (16, 4, 3")


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


def test_the_right_names_in_other_sizes(tmp_path):
    model = small_dncnn()
    state = {**model.state_dict(), "noise.2.weight": torch.ones(4, 4, 5, 5)}
    torch.save(state, tmp_path / "w")
    message = "weights of DnCNN in other sizes: noise.2.weight: model (4, 4, 3, 3), file (4, 4, 5, 5)"
    assert refusal(model, tmp_path / "w") == message
    with pytest.raises(UserError, match=f"^w: {re.escape(message)}$"):
        check_fit(model, state, Path("w"))


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
