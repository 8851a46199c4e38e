"""Degradations, against independent implementations and their definitions."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsr_cli.data import degrade

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (37, 41, 3), dtype=np.uint8)


@pytest.mark.parametrize("quality", [10, 40, 100])
def test_jpeg_agrees_with_pillow(quality):
    grey = COLOUR[:, :, 0]
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=quality)
    assert np.array_equal(degrade.jpeg(grey, quality), np.asarray(Image.open(stream)))


def test_noise_has_its_sigma_and_is_neither_clipped_nor_rounded():
    flat = np.zeros((400, 400), np.uint8)
    noisy = degrade.add_noise(flat, 25, np.random.RandomState(0))
    assert noisy.dtype == np.float32
    assert noisy.std() == pytest.approx(25, rel=0.01) and noisy.mean() == pytest.approx(0, abs=0.2)
    assert noisy.min() < -50 and not np.array_equal(noisy, noisy.round())


def test_evaluation_noise_depends_on_name_and_sigma_alone():
    def draw(path: str, sigma: float) -> np.ndarray:
        return degrade.evaluation_noise(Path(path), sigma).standard_normal(5)

    assert np.array_equal(draw("a/01.png", 25), draw("b/01.png", 25.0))
    assert not np.array_equal(draw("a/01.png", 25), draw("a/02.png", 25))
    assert not np.array_equal(draw("a/01.png", 25), draw("a/01.png", 15))
    # Pinned, so that no later version scores on other noise than the records that exist.
    np.testing.assert_allclose(draw("01.png", 25)[:2], [0.503350067715152, -0.7062143537756289], rtol=0, atol=1e-12)


def test_modcrop_cuts_right_and_bottom():
    assert np.array_equal(degrade.modcrop(COLOUR, 4), COLOUR[:36, :40])
    assert np.array_equal(degrade.modcrop(COLOUR[:, :, 0], 3), COLOUR[:36, :39, 0])


def test_grey_is_opencvs_and_luma_is_matlabs():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert degrade.as_grey(red)[0, 0] == 76  # 0.299 * 255
    assert degrade.as_luma(red)[0, 0] == 81  # 16 + 65.481
    grey = COLOUR[:, :, 0]
    assert degrade.as_grey(grey) is grey and np.array_equal(degrade.as_luma(grey), grey)
    assert np.array_equal(degrade.as_rgb(grey), np.stack([grey] * 3, axis=2))


def test_downscale_rounds_what_is_rounded():
    assert degrade.downscale(COLOUR, 2).dtype == np.uint8
    assert degrade.downscale(COLOUR.astype(np.float64), 2).dtype == np.float64
