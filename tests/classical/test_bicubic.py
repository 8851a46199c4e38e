"""Bicubic upscaling of tensors."""

import numpy as np
import torch

from nsr_cli.classical.bicubic import bicubic
from nsr_cli.data.images import read_image
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.metrics import psnr, ssim
from nsr_cli.ops.resize import imresize


def test_every_plane_is_upscaled_by_itself_in_float64():
    x = torch.rand(2, 3, 5, 7)
    upscaled = bicubic(x, 3)
    assert upscaled.shape == (2, 3, 15, 21) and upscaled.dtype == torch.float32
    plane = imresize(x[1, 2].numpy().astype(np.float64), scale=3).astype(np.float32)
    np.testing.assert_array_equal(upscaled[1, 2].numpy(), plane)


def test_it_overshoots_and_is_not_clipped():
    edge = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 1, 6, 6)
    upscaled = bicubic(edge, 2)
    assert upscaled.min() < -0.05 and upscaled.max() > 1.05


def test_dtype_is_kept_and_constants_stay():
    for dtype in (torch.float64, torch.bfloat16):
        x = torch.full((1, 1, 4, 4), 0.25, dtype=dtype, requires_grad=True)
        assert torch.equal(bicubic(x, 4), torch.full((1, 1, 16, 16), 0.25, dtype=dtype))


def test_set5(nsr_data):
    # PROTOCOLS.md, "Super-resolution": 33.6615 / .92988 at x2, 30.3924 / .86821 at x3, 28.4211 / .81040 at x4
    for scale, expected in ((2, (33.6615, 0.92988)), (3, (30.3924, 0.86821)), (4, (28.4211, 0.81040))):
        scores = []
        for path in sorted((nsr_data / "Set5").iterdir()):
            truth = quantize(rgb_to_y(read_image(path)))
            truth = truth[: len(truth) // scale * scale, : truth.shape[1] // scale * scale]
            low = imresize(truth / 255, scale=1 / scale).astype(np.float32)
            restored = bicubic(torch.from_numpy(low)[None, None], scale)[0, 0].clamp(16 / 255, 235 / 255)
            inner = (slice(scale, -scale), slice(scale, -scale))
            restored, truth = quantize(255 * restored.double().numpy())[inner], truth[inner]
            scores.append((psnr(restored, truth), ssim(restored, truth)))
        mean_psnr, mean_ssim = np.mean(scores, axis=0)
        assert (round(mean_psnr, 4), round(mean_ssim, 5)) == expected
