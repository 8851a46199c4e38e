"""WNNM against an implementation that treats one group at a time, and its properties."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from plain_wnnm import plain_wnnm, shrunk

from nsr_cli.classical import wnnm as module
from nsr_cli.classical.wnnm import SETTINGS, denoise, shrink, smallest, wnnm
from nsr_cli.errors import UserError


def noisy_image(height: int, width: int, sigma: float) -> np.ndarray:
    """A step edge and waves under noise, in 0..255."""
    y, x = np.mgrid[:height, :width]
    clean = 120 + 60 * (x > width // 2) + 30 * np.sin(y / 3)
    return clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)


@pytest.mark.parametrize("sigma", SETTINGS)
def test_it_equals_one_group_at_a_time(sigma, monkeypatch):
    settings = dataclasses.replace(SETTINGS[sigma], iterations=3)
    sigma = min(sigma, 80)
    monkeypatch.setattr(module, "REACH", 12)  # so that windows end inside of the image too, and tiles are several
    monkeypatch.setattr("plain_wnnm.REACH", 12)
    monkeypatch.setattr(module, "TILE", 5)
    noisy = noisy_image(24, 33, sigma)
    expected = plain_wnnm(noisy, sigma, settings)
    np.testing.assert_allclose(denoise(noisy, sigma, settings), expected, rtol=0, atol=1e-9)
    assert np.abs(denoise(noisy.astype(np.float32), sigma, settings) - expected).mean() < 1e-2


@pytest.mark.parametrize("shape", [(40, 9), (8, 30), (16, 16)])
def test_groups_are_shrunk_as_by_their_singular_values(shape):
    # more patches than pixels, fewer, and as many; levels from "all is kept" to "all vanishes"
    groups = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups += 3 * groups[:, :1]
    levels = torch.tensor([0.0, 0.1, 0.3, 0.6, 9.0], dtype=torch.float64)
    restored = shrink(groups, levels)
    for group, level, one in zip(groups, levels, restored, strict=True):
        np.testing.assert_allclose(one, shrunk(group.numpy(), float(level)), atol=1e-12)
    torch.testing.assert_close(restored[0], groups[0])
    torch.testing.assert_close(restored[-1], groups[-1].mean(dim=0).expand(shape))


def test_a_shrunk_singular_value_is_the_fixed_point_of_its_reweighting():
    # Eq. 5 with the weight c sqrt(n) level^2 / x: the derivative of (s - x)^2 + 2 w x, with w held, is 0 at x = s - w
    s, n, level = 50.0, 4, 2.0
    group = torch.zeros(1, n, 3, dtype=torch.float64)
    group[0, :, 0] = torch.tensor([1.0, -1.0, 1.0, -1.0]) * s / 2  # its only singular value is s
    x = float(torch.linalg.matrix_norm(shrink(group, torch.tensor([level], dtype=torch.float64)), ord=2))
    weight = module.WEIGHT * math.sqrt(n) * level**2 / x
    assert x == pytest.approx(s - weight) and x < s


def test_the_smallest_values_are_found_with_ties_and_without():
    random = np.random.default_rng(0)
    for values in (random.random((20, 500)), random.integers(0, 5, (20, 500)).astype(float), np.zeros((3, 40))):
        for count in (1, 7, 40):
            chosen = smallest(values, count)
            assert all(len(set(row)) == count for row in chosen)
            found = np.sort(np.take_along_axis(values, chosen, axis=1))
            np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :count])


def test_noise_is_removed_and_what_has_none_stays():
    noisy = torch.from_numpy(noisy_image(40, 36, 25))[None, None] / 255
    clean = torch.from_numpy(noisy_image(40, 36, 0))[None, None] / 255
    assert (wnnm(noisy, 25) - clean).square().mean() < (noisy - clean).square().mean() / 8
    flat = torch.full((1, 1, 20, 23), 0.3, dtype=torch.float64)
    torch.testing.assert_close(wnnm(flat, 25), flat)


def test_turned_images_give_the_turned_result():
    # 32 pixels make 27 positions of a patch: with steps of 2, the same ones from either end
    noisy = torch.from_numpy(noisy_image(32, 32, 15))[None, None] / 255
    restored = wnnm(noisy, 15)
    torch.testing.assert_close(wnnm(noisy.mT, 15).mT, restored)
    torch.testing.assert_close(wnnm(noisy.flip(3), 15).flip(3), restored)


def test_images_of_a_batch_keep_their_precision_and_are_denoised_one_by_one():
    x = torch.rand(2, 1, 14, 12, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        restored = wnnm(x.to(dtype).requires_grad_(), 40)
        assert restored.shape == x.shape and restored.dtype == dtype and not restored.requires_grad
        assert torch.equal(restored[1:], wnnm(x[1:].to(dtype), 40))


@pytest.mark.parametrize(
    ("shape", "sigma", "message"),
    [
        ((1, 3, 16, 16), 25, r"^WNNM restores grey images \(B, 1, H, W\); these are \(1, 3, 16, 16\)$"),
        ((1, 1, 6, 16), 25, r"^WNNM compares patches 7 pixels wide; these images are \(1, 1, 6, 16\)$"),
        ((1, 1, 16, 16), 0, r"^WNNM removes noise of a sigma above 0, in grey levels of 0..255; sigma is 0$"),
        ((1, 1, 16, 16), math.nan, r"sigma is nan$"),
    ],
)
def test_bad_input_is_refused(shape, sigma, message):
    with pytest.raises(UserError, match=message):
        wnnm(torch.rand(shape), sigma)
