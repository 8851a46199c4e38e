"""DnCNN: sizes, and the published weights on real images."""

import numpy as np
import pytest
import torch

from nsr_cli.data.images import read_image
from nsr_cli.models.dncnn import DnCNN
from nsr_cli.models.weights import load_weights
from nsr_cli.ops.color import quantize
from nsr_cli.ops.metrics import psnr, ssim


def test_parameters():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    # by hand: 9 * (64 + 15 * 64 * 64 + 64) kernels' weights, 16 * 64 + 1 biases
    assert count(DnCNN()) == 555_137
    # 15 layers swap their biases for a gain and an offset
    assert count(DnCNN(batch_norm=True)) == 555_137 + 15 * 64


def test_it_subtracts_what_it_predicts():
    model, x = DnCNN(layers=4, width=8, channels=3), torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(model(x) + model.noise(x), x)
    for parameter in model.noise[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(model(x), x)


@pytest.mark.parametrize("layers", [2, 5])
def test_halo_is_the_receptive_radius(layers):
    model = DnCNN(layers, width=4)
    for parameter in model.parameters():
        parameter.data.abs_()
    x = torch.rand(1, 1, 1, 41, requires_grad=True)
    model(x)[0, 0, 0, 20].backward()
    seen = x.grad.ravel().nonzero().ravel()
    assert (int(seen.min()), int(seen.max())) == (20 - model.halo, 20 + model.halo)


@pytest.mark.parametrize(
    ("weights", "sigma", "image", "expected"),
    [  # PSNR and SSIM of single images, computed with these weights by the convention of PROTOCOLS.md, "Denoising",
        # when the means over Set12 were the four-digit ones of its table (to 1e-4 dB), as the paper's to 0.01 dB
        ("sigma15.mat", 15, "01.png", (32.58582, 0.91309)),
        ("sigma25.mat", 25, "05.png", (30.40810, 0.92037)),
        ("sigma25_kair.pth", 25, "05.png", (30.40810, 0.92037)),  # the same numbers in another format
        ("sigma50.mat", 50, "06.png", (25.82618, 0.79779)),
    ],
)
def test_published_weights_give_the_published_denoising(nsr_data, weights, sigma, image, expected):
    pytest.importorskip("h5py")
    model = DnCNN().eval()
    load_weights(model, nsr_data / "weights" / "dncnn" / weights)
    truth = read_image(nsr_data / "Set12" / image)
    noise = np.random.RandomState(0).randn(*truth.shape)
    noisy = torch.from_numpy((truth / 255 + sigma / 255 * noise).astype(np.float32))[None, None]
    with torch.inference_mode():
        restored = quantize(255 * model(noisy)[0, 0].double().numpy())
    assert (psnr(restored, truth), ssim(restored, truth)) == pytest.approx(expected, abs=2e-4)


def test_published_weights_give_the_published_deblocking(nsr_data):
    # PSNR and SSIM of the upper left 128x128 pixels of a restored image, computed with these weights by the
    # convention of PROTOCOLS.md, "JPEG artifacts", when the means over Classic5 were the ones of its table
    expected = (32.87027, 0.88235)
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("h5py")
    model = DnCNN(layers=20).eval()
    load_weights(model, nsr_data / "weights" / "dncnn" / "dncnn3.mat")
    truth = read_image(nsr_data / "Classic5" / "peppers.png")
    jpeg = cv2.imdecode(cv2.imencode(".jpg", truth, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_UNCHANGED)
    side = 128 + model.halo
    degraded = torch.from_numpy(jpeg[:side, :side] / np.float32(255))[None, None]
    with torch.inference_mode():
        restored = quantize(255 * model(degraded)[0, 0, :128, :128].double().numpy())
    scores = psnr(restored, truth[:128, :128]), ssim(restored, truth[:128, :128])
    assert scores == pytest.approx(expected, abs=2e-4)
