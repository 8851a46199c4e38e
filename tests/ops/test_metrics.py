"""PSNR and SSIM against scikit-image, plain numpy, and numbers that can be checked by hand."""

import math
import tracemalloc

import numpy as np
import pytest
import skimage.data
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nsr_cli.errors import UserError
from nsr_cli.ops import metrics
from nsr_cli.ops.metrics import psnr, ssim


def options(peak=255):
    return dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=peak)


def skimage_ssim(restored, truth, peak=255):
    """scikit-image's mean, checked to be that of the windows inside the image, cut from its full map."""
    channel_axis = 2 if truth.ndim == 3 else None
    mean, full = structural_similarity(restored, truth, full=True, channel_axis=channel_axis, **options(peak))
    assert full[5:-5, 5:-5].mean() == pytest.approx(mean, rel=1e-12)
    return mean


def uniform_ssim(x, y, peak=255):
    """The 8x8 definition, window by window."""
    x, y = (sliding_window_view(image.astype(float), (8, 8)) for image in (x, y))
    axes = (-2, -1)
    covariance = (x * y).mean(axes) - x.mean(axes) * y.mean(axes)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * x.mean(axes) * y.mean(axes) + c1) / (x.mean(axes) ** 2 + y.mean(axes) ** 2 + c1)
    return (luminance * (2 * covariance + c2) / (x.var(axes) + y.var(axes) + c2)).mean()


def pair(*shape, sigma=12, seed=0):
    """A photograph's uint8 corner, noisy and clean."""
    rng = np.random.default_rng(seed)
    photo = skimage.data.astronaut()[: shape[0], : shape[1]]
    photo = photo if len(shape) == 3 else photo[..., 1]
    return np.clip(np.round(photo + rng.normal(0, sigma, photo.shape)), 0, 255).astype(np.uint8), photo


@pytest.mark.parametrize("shape", [(64, 80), (11, 11), (12, 300), (61, 47, 3), (130, 512)])
@pytest.mark.parametrize("sigma", [0.3, 12, 90])
def test_ssim_equals_scikit_image(shape, sigma):
    noisy, photo = pair(*shape, sigma=sigma)
    assert ssim(noisy, photo) == pytest.approx(skimage_ssim(noisy, photo), abs=1e-10)


def test_ssim_of_floats_equals_scikit_image():
    noisy, photo = pair(60, 70)
    noisy, photo = noisy + 0.25, photo * 0.99
    assert ssim(noisy, photo) == pytest.approx(skimage_ssim(noisy, photo), abs=1e-10)
    expected = skimage_ssim(noisy / 255, photo / 255, peak=1)
    assert ssim(noisy / 255, photo / 255, peak=1) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shape", [(64, 80), (8, 8), (9, 30), (70, 520)])
def test_uniform_ssim_equals_its_definition(shape):
    noisy, photo = pair(*shape)
    assert ssim(noisy, photo, window="uniform") == pytest.approx(uniform_ssim(noisy, photo), abs=1e-10)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_ssim_of_constants(window):
    # by hand: without contrast the second factor is 1, the first (2ab + c1) / (a^2 + b^2 + c1), c1 = 6.5025
    a, b = np.full((20, 20), 100, np.uint8), np.full((20, 20), 120, np.uint8)
    assert ssim(a, b, window) == pytest.approx((24000 + 6.5025) / (24400 + 6.5025), rel=1e-9)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_ssim_properties(window):
    noisy, photo = pair(50, 60, 3)
    assert ssim(photo, photo, window) == pytest.approx(1, abs=1e-12)
    assert ssim(noisy, photo, window) == pytest.approx(ssim(photo, noisy, window), rel=1e-12)
    assert ssim(noisy, photo, window) < 1
    channels = [ssim(noisy[..., c], photo[..., c], window) for c in range(3)]
    assert ssim(noisy, photo, window) == pytest.approx(np.mean(channels), rel=1e-12)
    assert ssim(noisy, photo.astype(np.float64), window) == pytest.approx(ssim(noisy, photo, window), rel=1e-15)
    turned = noisy.swapaxes(0, 1), photo.swapaxes(0, 1)
    assert ssim(*turned, window) == pytest.approx(ssim(noisy, photo, window), rel=1e-12)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("tile", [(1, 10**6), (10**6, 1), (7, 13), (64, 64)])
def test_tiles_do_not_show(monkeypatch, window, tile):
    noisy, photo = pair(70, 90, 3)
    monkeypatch.setattr(metrics, "_TILE", (10**6, 10**6))
    whole = ssim(noisy / 1.7, photo / 1.7, window), psnr(noisy / 1.7, photo / 1.7)
    monkeypatch.setattr(metrics, "_TILE", tile)
    tiled = ssim(noisy / 1.7, photo / 1.7, window), psnr(noisy / 1.7, photo / 1.7)
    assert tiled == pytest.approx(whole, rel=1e-12)


def test_temporaries_are_bounded():
    photo = np.full((3000, 3000, 3), 90, np.uint8)  # 27 MB
    tracemalloc.start()
    try:
        assert psnr(photo, photo) == math.inf
        assert ssim(photo, photo) == pytest.approx(1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (10, 10, 3)])
def test_ssim_of_an_image_smaller_than_the_window(shape):
    height, width = shape[:2]
    expected = f"ssim: an image of {height}x{width} pixels; the gaussian window needs at least 11x11"
    with pytest.raises(UserError, match=expected):
        ssim(np.zeros(shape), np.zeros(shape))
    with pytest.raises(UserError, match="the uniform window needs at least 8x8"):
        ssim(np.zeros((7, 9)), np.zeros((7, 9)), window="uniform")


def test_unknown_window():
    with pytest.raises(UserError, match="no SSIM window 'box'; there are: gaussian, uniform"):
        ssim(np.zeros((20, 20)), np.zeros((20, 20)), window="box")


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    "first, second, text",
    [
        ((20, 20), (20, 21), r"shapes \(20, 20\) and \(20, 21\); expected one shape"),
        ((20, 20), (20, 20, 1), r"shapes \(20, 20\) and \(20, 20, 1\)"),
        ((20,), (20,), r"shape \(20,\); expected \(H, W\) or \(H, W, C\)"),
        ((0, 20), (0, 20), r"shape \(0, 20\) has no pixels$"),
    ],
)
def test_bad_pairs(metric, first, second, text):
    with pytest.raises(UserError, match=text):
        metric(np.zeros(first), np.zeros(second))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("peak", [0, -1, math.nan])
def test_a_peak_that_is_no_white(metric, peak):
    with pytest.raises(UserError, match=f": peak={peak}; expected the value of white, above 0$"):
        metric(np.zeros((20, 20)), np.ones((20, 20)), peak=peak)


@pytest.mark.parametrize("name", ["no_such_module.lpips", "math.no_such_function"])
def test_a_metric_that_cannot_be_imported_is_named_by_its_key(name):
    with pytest.raises(UserError, match=rf"^metrics=\[{name}\]: expected a class or function that can be imported; "):
        metrics.metric(name)


def test_psnr_by_hand():
    truth = np.zeros((4, 5), np.uint8)
    assert psnr(truth, truth) == math.inf
    assert psnr(truth + 255, truth) == pytest.approx(0, abs=1e-12)
    assert psnr(truth, truth + 255) == pytest.approx(0, abs=1e-12)  # and no wrapping of unsigned differences
    assert psnr(truth + 1, truth) == pytest.approx(48.1308036, abs=1e-7)  # 20 log10(255)
    assert psnr(truth + 0.1, truth, peak=1) == pytest.approx(20, abs=1e-12)
    one_wrong = truth.copy()
    one_wrong[2, 3] = 10
    assert psnr(one_wrong, truth) == pytest.approx(10 * math.log10(255**2 / 5), abs=1e-12)  # MSE 100 / 20


@pytest.mark.parametrize("shape", [(64, 80), (61, 47, 3), (200, 512)])
def test_psnr_equals_scikit_image(shape):
    noisy, photo = pair(*shape)
    assert psnr(noisy, photo) == pytest.approx(peak_signal_noise_ratio(photo, noisy), rel=1e-12)
    assert psnr(noisy / 255, photo / 255, peak=1) == pytest.approx(psnr(noisy, photo), rel=1e-12)


def test_psnr_of_numbers_that_are_none():
    truth = np.zeros((4, 5))
    assert math.isnan(psnr(truth + np.nan, truth))
    assert psnr(truth + np.inf, truth) == -math.inf
