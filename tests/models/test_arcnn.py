"""ARCNN: sizes, borders and order of the kernels, and the published weights on real images."""

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch

from nsr_cli.data.images import read_image
from nsr_cli.models.arcnn import ARCNN
from nsr_cli.models.weights import load_weights
from nsr_cli.ops.color import quantize
from nsr_cli.ops.metrics import psnr, ssim


def test_parameters():
    # by hand: 9 * 9 * 64 + 64 * 7 * 7 * 32 + 32 * 16 + 16 * 5 * 5 kernels' weights, 64 + 32 + 16 + 1 biases
    assert sum(p.numel() for p in ARCNN().parameters()) == 106_448 + 113


def test_halo_is_the_receptive_radius():
    model, x = ARCNN(), torch.rand(1, 1, 1, 41, requires_grad=True)
    for parameter in model.parameters():
        parameter.data.abs_()
    model(x)[0, 0, 0, 20].backward()
    seen = x.grad.ravel().nonzero().ravel()
    assert (int(seen.min()), int(seen.max())) == (20 - model.halo, 20 + model.halo)


def test_files_of_the_authors_layout_act_as_matlab_would(tmp_path):
    # What their MATLAB code does, by other means: kernels listed column by column (reshape), correlation with
    # replicated borders (imfilter), in float64.
    rng = np.random.default_rng(0)
    shapes = {"conv1": (1, 81, 64), "conv2": (64, 49, 32), "conv22": (32, 1, 16), "conv3": (16, 25)}
    arrays = {}
    for name, shape in shapes.items():
        channels = 1 if len(shape) == 2 else shape[2]
        arrays[f"weights_{name}"] = rng.standard_normal(shape) / np.sqrt(shape[0] * shape[1])
        arrays[f"biases_{name}"] = rng.standard_normal((channels, 1)).astype(np.float32) / 10
    scipy.io.savemat(tmp_path / "weights", arrays, appendmat=False)
    image = rng.random((11, 14)).astype(np.float32)

    maps = [image.astype(np.float64)]
    for name, shape in shapes.items():
        side = round(shape[1] ** 0.5)
        weights = arrays[f"weights_{name}"].reshape(*shape[:2], -1)  # in, pixel, out
        convolved = []
        for out in range(weights.shape[2]):
            kernels = [weights[i, :, out].reshape(side, side).T for i in range(shape[0])]
            planes = [scipy.ndimage.correlate(m, k, mode="nearest") for m, k in zip(maps, kernels, strict=True)]
            convolved.append(sum(planes) + arrays[f"biases_{name}"][out, 0])
        maps = convolved if name == "conv3" else [np.maximum(plane, 0) for plane in convolved]

    model = ARCNN()
    load_weights(model, tmp_path / "weights")
    restored = model(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(restored, maps[0], atol=1e-5)


@pytest.mark.parametrize(
    ("quality", "image", "expected"),
    [  # PSNR, SSIM (8x8) and SSIM (Gaussian) of single images, computed with these weights by the convention of
        # PROTOCOLS.md, "JPEG artifacts", when the means over Classic5 were the ones of its table in every digit
        (10, "peppers.png", (31.84605, 0.84347, 0.82975)),
        (20, "baboon.png", (26.78079, 0.81736, 0.78728)),
        (40, "lena.png", (36.11242, 0.92893, 0.91880)),
    ],
)
def test_published_weights_give_the_published_deblocking(nsr_data, quality, image, expected):
    cv2 = pytest.importorskip("cv2")
    model = ARCNN().eval()
    load_weights(model, nsr_data / "weights" / "arcnn" / f"q{quality}.mat")
    truth = read_image(nsr_data / "Classic5" / image)
    jpeg = cv2.imencode(".jpg", truth, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    degraded = torch.from_numpy(cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED) / np.float32(255))[None, None]
    with torch.inference_mode():
        restored = quantize(255 * model(degraded)[0, 0].double().numpy())
    scores = psnr(restored, truth), ssim(restored, truth, "uniform"), ssim(restored, truth)
    assert scores == pytest.approx(expected, abs=2e-4)
