"""BM3D through the optional package."""

import sys

import numpy as np
import pytest
import torch

from nsr_cli.classical.bm3d import bm3d
from nsr_cli.data.images import read_image
from nsr_cli.errors import UserError
from nsr_cli.ops.color import quantize
from nsr_cli.ops.metrics import psnr, ssim


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(UserError, match=r"^BM3D needs the package bm3d: pip install nsr\[bm3d\]"):
        bm3d(torch.rand(1, 1, 16, 16), 25)


def test_colour_is_refused():
    with pytest.raises(UserError, match=r"grey images \(B, 1, H, W\); these are \(1, 3, 16, 16\)"):
        bm3d(torch.rand(1, 3, 16, 16), 25)


@pytest.mark.parametrize("size", [(8, 8), (7, 30), (30, 1)])
def test_images_of_no_two_blocks_are_refused(size):
    with pytest.raises(
        UserError, match=r"^BM3D compares blocks of 8x8 pixels, two at least; these images are \(1, 1, "
    ):
        bm3d(torch.rand(1, 1, *size), 25)  # once the end of the process by a segmentation fault, or a ValueError


def test_images_of_a_batch_are_denoised_one_by_one():
    pytest.importorskip("bm3d")
    x = 0.5 + 0.1 * torch.randn(2, 1, 24, 20, generator=torch.Generator().manual_seed(0))
    restored = bm3d(x, sigma=25.5)
    assert restored.shape == x.shape and restored.dtype == x.dtype
    assert torch.equal(restored[1:], bm3d(x[1:], sigma=25.5))
    assert restored.std() < x.std() / 4


def test_set12(nsr_data):
    # PSNR and SSIM of one image, computed with bm3d 4.0.3 by the convention of PROTOCOLS.md, "Denoising", when the
    # means over Set12 were the ones of its text in every digit (29.9852 / .8512 here, at sigma 25)
    pytest.importorskip("bm3d")
    truth = read_image(nsr_data / "Set12" / "06.png")
    noise = np.random.RandomState(0).randn(*truth.shape)
    noisy = torch.from_numpy((truth / 255 + 25 / 255 * noise).astype(np.float32))[None, None]
    restored = quantize(255 * bm3d(noisy, sigma=25)[0, 0].double().numpy())
    assert (psnr(restored, truth), ssim(restored, truth)) == pytest.approx((28.35504, 0.85588), abs=1e-3)
