"""VDSR: sizes, range, locality, and the published weights on real images."""

import pytest
import torch

from nsr_cli.classical.bicubic import bicubic
from nsr_cli.data.images import read_image
from nsr_cli.models.vdsr import VDSR
from nsr_cli.models.weights import load_weights
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.metrics import psnr, ssim
from nsr_cli.ops.resize import imresize


def test_parameters():
    # by hand: 9 * (64 + 18 * 64 * 64 + 64) kernels' weights, 19 * 64 + 1 biases
    assert sum(p.numel() for p in VDSR(2).parameters()) == 665_921


def test_without_a_residual_it_is_bicubic_in_the_range_of_luma():
    model, x = VDSR(3, layers=3, width=4), torch.rand(2, 1, 9, 7)
    for parameter in model.residual[-1].parameters():
        torch.nn.init.zeros_(parameter)
    expected = bicubic(x, 3).clamp(16 / 255, 235 / 255)
    assert torch.equal(model(x), expected) and expected.min() == 16 / 255 and expected.max() == 235 / 255


def test_gradients_reach_the_weights():
    model = VDSR(2, layers=3, width=4)
    model(torch.rand(1, 1, 6, 6)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.residual[-1].parameters())


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("layers", [4, 5])
def test_nothing_beyond_the_halo_is_seen(scale, layers):
    torch.manual_seed(0)
    model, x = VDSR(scale, layers, width=4).double(), torch.rand(1, 1, 8, 41).double() / 2 + 0.25
    changed = x.clone()
    changed[..., 20 + model.halo + 1 :] = 0.5
    changed[..., : 20 - model.halo] = 0.5
    pixel = slice(20 * scale, 21 * scale)
    assert torch.equal(model(x)[..., pixel], model(changed)[..., pixel])


@pytest.mark.parametrize(
    ("scale", "image", "expected"),
    [  # PSNR and SSIM of single images, computed with these weights by the convention of PROTOCOLS.md,
        # "Super-resolution", when the means over Set5 and Set14 were the ones of its table (to 1e-4 dB)
        (2, "butterfly.png", (34.49026, 0.97500)),
        (3, "woman.png", (32.36342, 0.94037)),
        (4, "bird.png", (33.53334, 0.92790)),
    ],
)
def test_published_weights_give_the_published_upscaling(nsr_data, scale, image, expected):
    model = VDSR(scale).eval().double()  # in float32, CPUs round a pixel differently
    load_weights(model, nsr_data / "weights" / "vdsr" / "vdsr_official.mat")
    truth = quantize(rgb_to_y(read_image(nsr_data / "Set5" / image)))
    truth = truth[: len(truth) // scale * scale, : truth.shape[1] // scale * scale]
    low = torch.from_numpy(imresize(truth / 255, scale=1 / scale))[None, None]
    with torch.inference_mode():
        restored = quantize(255 * model(low)[0, 0].numpy())
    inner = (slice(scale, -scale), slice(scale, -scale))
    scores = psnr(restored[inner], truth[inner]), ssim(restored[inner], truth[inner])
    assert scores == pytest.approx(expected, abs=2e-4)
