"""Luma and 8-bit rounding, against numbers that can be checked by hand."""

from fractions import Fraction

import numpy as np
import pytest

from nsr_cli.errors import UserError
from nsr_cli.ops import color
from nsr_cli.ops.color import quantize, rgb_to_y


@pytest.mark.parametrize(
    "rgb, y",
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
    ],
)
def test_corners_of_the_cube(rgb, y):
    # ITU-R BT.601: black 16, white 235; 16 plus each coefficient of PROTOCOLS.md's formula
    assert rgb_to_y(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(y, abs=1e-12)
    assert rgb_to_y(np.array([[rgb]], np.float64))[0, 0] == pytest.approx(y, abs=1e-12)


def test_8_bit_luma_is_correctly_rounded():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    y = rgb_to_y(image)
    assert y.dtype == np.float64
    for row, column in np.ndindex(y.shape):
        red, green, blue = (int(v) for v in image[row, column])
        exact = 16 + Fraction(65481 * red + 128553 * green + 24966 * blue, 255000)
        assert y[row, column] == pytest.approx(float(exact), rel=3e-16)
        assert quantize(y)[row, column] == int(exact + Fraction(1, 2))


def test_grey_is_its_own_y():
    image = np.array([[0, 16, 235, 255]], np.uint8)
    y = rgb_to_y(image)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, image)
    floats = image / 3
    assert not np.shares_memory(rgb_to_y(floats), floats)


def test_strips_do_not_show(monkeypatch):
    image = np.random.default_rng(0).random((33, 20, 3)) * 255
    whole = rgb_to_y(image)
    monkeypatch.setattr(color, "_STRIP", 70)
    np.testing.assert_allclose(rgb_to_y(image), whole, rtol=1e-15)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (4, 4, 4), (2, 4, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match=r"shape \(.*\); expected \(H, W, 3\) RGB or \(H, W\) grey"):
        rgb_to_y(np.zeros(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantize_rounds_half_up_and_clips(dtype):
    values = np.array([-300, -0.5, 0, 0.49, 0.5, 1.5, 2.5, 254.49, 254.5, 255.5, 1e9, np.inf, -np.inf], dtype)
    out = quantize(values)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, [0, 0, 0, 0, 1, 2, 3, 254, 255, 255, 255, 255, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("half", [0.5, 1.5, 2.5, 127.5, 254.5])
def test_quantize_next_to_a_half(dtype, half):
    half = dtype(half)
    below, above = np.nextafter(half, dtype(0)), np.nextafter(half, dtype(300))
    np.testing.assert_array_equal(quantize(np.array([below, half, above])), np.floor(half) + [0, 1, 1])


def test_quantize_keeps_integers_and_its_input():
    np.testing.assert_array_equal(quantize(np.array([[-5, 0, 7, 255, 300]])), [[0, 0, 7, 255, 255]])
    image = np.array([[1, 2]], np.uint8)
    assert not np.shares_memory(quantize(image), image)
    floats = np.array([[1.6, -3.0]])
    quantize(floats)
    np.testing.assert_array_equal(floats, [[1.6, -3.0]])
    assert quantize(np.zeros((0, 3))).shape == (0, 3)


def test_quantize_refuses_nan():
    with pytest.raises(UserError, match="the image holds NaN"):
        quantize(np.array([[1.0, np.nan]]))
