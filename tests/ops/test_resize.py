"""imresize against a dense gather, exact whole numbers, and numbers that can be checked by hand."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from dense_gather import contributions, dense_gather

from nsr_cli.errors import UserError
from nsr_cli.ops import resize
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.metrics import psnr, ssim
from nsr_cli.ops.resize import imresize

SCALES = [1 / 4, 1 / 3, 1 / 2, 2, 3, 4]


def resize_exactly(image, scale):
    """uint8 (H, W), in whole numbers: ties are ties."""
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0).astype(np.int64)
        rows = []
        for row in contributions(len(image), math.ceil(len(image) * scale), scale):
            common = math.lcm(*(w.denominator for _, w in row))
            total = sum(int(w * common) * image[j] for j, w in row)
            rows.append(np.clip((2 * total + common) // (2 * common), 0, 255))
        image = np.moveaxis(np.stack(rows), 0, axis)
    return image.astype(np.uint8)


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(48, 60), (37, 41, 3), (5, 3), (2, 2, 3), (1, 1), (1, 30), (97, 130, 2)])
def test_uint8_equals_the_dense_gather(scale, shape):
    # for these scales no sum comes nearer to a half than float64 can tell, so equality has no exceptions
    image = noise(*shape)
    np.testing.assert_array_equal(imresize(image, scale), dense_gather(image, scale))


@pytest.mark.parametrize("scale", SCALES + [3 / 2, 0.7, 5 / 7, 1 / 5, 6, 1 / 8])
def test_float_equals_the_dense_gather(scale):
    image = noise(45, 70, 3, dtype=np.float64)
    out = imresize(image, scale)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, dense_gather(image, scale), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", ["3/2", "7/10", "5/7", "1/5", "1/6", "1/3", "1/4", "3/4", "2", "3", "5", "6", "8"])
def test_uint8_equals_whole_numbers(scale):
    # 3/2, 7/10, 5, 6, ... have true ties, which plain floating-point sums miss to either side
    image = noise(70, 90, seed=1)
    scale = Fraction(scale)
    np.testing.assert_array_equal(imresize(image, float(scale)), resize_exactly(image, scale))


def test_ties_round_away_from_zero():
    # by hand: at 1/2 the even and the odd pixels weigh a half each, so columns of 0 and 5 in turn give 2.5
    image = np.tile(np.array([0, 5], np.uint8), (8, 16))
    assert (imresize(image, 0.5)[:, 2:-2] == 3).all()


def test_enlarged_impulse_is_the_kernel():
    # Keys' kernel at 7/4, 5/4, 3/4, 1/4, ..., in 128ths, by hand
    kernel = np.array([-3, -9, 29, 111, 111, 29, -9, -3])
    impulse = np.zeros((9, 9))
    impulse[4, 4] = 128 * 128
    np.testing.assert_array_equal(imresize(impulse, 2)[5:13, 5:13], np.outer(kernel, kernel))


def test_halved_impulse_is_the_stretched_kernel():
    # by hand: outputs 2 .. 6 sit at 4.5, 6.5, ... 12.5; the kernel at 7/4, 3/4, 1/4, 5/4, 9/4, in 256ths
    impulse = np.zeros((16, 1))
    impulse[8] = 256
    np.testing.assert_array_equal(imresize(impulse, size=(8, 1))[2:7, 0], [-3, 29, 111, -9, 0])


def test_step_is_rounded_and_clipped():
    image = np.zeros((8, 8), np.uint8)
    image[:, 4:] = 255
    out = imresize(image, 2)
    # by hand: 255 / 128 times -3, -9, 29 - 3, 111 - 9, 128 + 9, 128 + 3
    np.testing.assert_array_equal(out[0, 5:11], [0, 0, 52, 203, 255, 255])
    assert (out == out[0]).all()


@pytest.mark.parametrize("scale", SCALES + [1.37, 0.61])
@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_constant_stays_constant(scale, value):
    image = np.full((13, 17, 3), value, np.uint8)
    assert (imresize(image, scale) == value).all()
    np.testing.assert_allclose(imresize(image.astype(float), scale), value, rtol=1e-14)


@pytest.mark.parametrize("scale", SCALES)
def test_ramp_stays_a_ramp_inside(scale):
    # the kernel reproduces straight lines: output i shows the line at (i + 0.5) / scale - 0.5
    ramp = np.add.outer(3.0 * np.arange(60), 2.0 * np.arange(60))
    out = imresize(ramp, scale)
    at = (np.arange(len(out)) + 0.5) / scale - 0.5
    inside = slice(math.ceil(3 * max(scale, 1)), -math.ceil(3 * max(scale, 1)))
    np.testing.assert_allclose(out[inside, inside], np.add.outer(3 * at, 2 * at)[inside, inside], atol=1e-10)


def test_borders_are_mirrored():
    image = noise(10, 12, dtype=np.float64)
    mirrored = np.pad(image, 10, mode="symmetric")
    np.testing.assert_allclose(imresize(image, 2), imresize(mirrored, 2)[20:-20, 20:-20], atol=1e-11)


@pytest.mark.parametrize("size", [(10, 60), (60, 10), (40, 20), (64, 96), (32, 20), (7, 7)])
def test_smaller_scale_goes_first(size):
    image = noise(32, 48)
    out = imresize(image, size=size)
    np.testing.assert_array_equal(out, dense_gather(image, size=size))
    first = (size[0], 48) if size[0] / 32 <= size[1] / 48 else (32, size[1])
    np.testing.assert_array_equal(out, imresize(imresize(image, size=first), size=size))


def test_equal_scales_go_vertical_first():
    image = noise(32, 48, seed=3)
    vertical = imresize(imresize(image, size=(64, 48)), size=(64, 96))
    horizontal = imresize(imresize(image, size=(32, 96)), size=(64, 96))
    np.testing.assert_array_equal(imresize(image, 2), vertical)
    assert (vertical != horizontal).any()


@pytest.mark.parametrize("scale", SCALES)
def test_transposed_float_image_gives_the_transpose(scale):
    image = noise(20, 31, dtype=np.float64)
    np.testing.assert_allclose(imresize(image.T, scale), imresize(image, scale).T, atol=1e-11)


@pytest.mark.parametrize("scale", [0.5, 1 / 3, 2, 3])
def test_last_two_axes_of_nchw(scale):
    batch = np.random.default_rng(0).random((2, 3, 24, 30), np.float32)
    out = imresize(batch, scale, axes=(-2, -1))
    assert out.dtype == np.float32
    assert out.shape == (2, 3, math.ceil(24 * scale), math.ceil(30 * scale))
    planes = [[imresize(plane.astype(np.float64), scale) for plane in image] for image in batch]
    np.testing.assert_allclose(out, planes, atol=1e-6)


def test_any_two_axes():
    image = noise(12, 15, 7)
    np.testing.assert_array_equal(imresize(image, 2, axes=(2, 0)), imresize(image.T, 2, axes=(0, 2)).T)
    np.testing.assert_array_equal(imresize(image, 2), np.stack([imresize(image[..., c], 2) for c in range(7)], axis=-1))
    batch = noise(2, 12, 15, 3)
    np.testing.assert_array_equal(
        imresize(batch, 0.5, axes=(1, 2)), np.stack([imresize(image, 0.5) for image in batch])
    )


def test_size_is_rounded_up():
    assert imresize(noise(10, 11), 1 / 3).shape == (4, 4)
    assert imresize(noise(10, 11), 1.25).shape == (13, 14)
    assert imresize(noise(10, 11, 3), size=(5, 40)).shape == (5, 40, 3)


def test_scale_one_is_a_copy():
    image = noise(9, 8, 3)
    out = imresize(image, 1)
    np.testing.assert_array_equal(out, image)
    assert not np.shares_memory(out, image)


def test_strided_and_read_only_input():
    image = noise(40, 40, 3)
    view = image[::2, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(imresize(view, 0.5), imresize(view.copy(), 0.5))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("scale", [0.5, 1 / 3, 0.7, 3])
def test_tiles_do_not_show(monkeypatch, dtype, scale):
    image = noise(150, 333, 3, dtype=dtype)
    whole = imresize(image, scale)
    monkeypatch.setattr(resize, "_BUFFER", 1000)
    monkeypatch.setattr(resize, "_WIDTH", 64)
    np.testing.assert_allclose(imresize(image, scale), whole, rtol=0, atol=0 if dtype == np.uint8 else 1e-11)


@pytest.mark.parametrize("scale, size", [(1 / 4, None), (1.5, None), (None, (20, 20)), (None, (6000, 20))])
def test_temporaries_are_bounded(scale, size):
    image = noise(16, 16).repeat(140, 0).repeat(140, 1)[..., None].repeat(3, 2)  # 5 megapixels, 15 MB
    tracemalloc.start()
    try:
        out = imresize(image, scale, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - out.nbytes < 20e6


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({}, "scale=None, size=None; expected exactly one"),
        ({"scale": 2, "size": (3, 3)}, "expected exactly one"),
        ({"scale": 0}, "scale=0; expected one positive number"),
        ({"scale": -2.0}, "scale=-2.0; expected one positive number"),
        ({"scale": math.nan}, "scale=nan"),
        ({"scale": math.inf}, "scale=inf"),
        ({"scale": (2, 3)}, "expected one positive number"),
        ({"size": (3, 0)}, "expected (height, width)"),
        ({"size": (3.5, 4)}, "expected (height, width)"),
        ({"size": (math.nan, 4)}, "size=(nan, 4); expected (height, width)"),
        ({"size": (3, math.inf)}, "size=(3, inf); expected (height, width)"),
        ({"size": 7}, "expected (height, width)"),
        ({"scale": 2, "axes": (0, 3)}, "axes (0, 3) of shape (4, 5, 3)"),
        ({"scale": 2, "axes": (1, -2)}, "both axes are axis 1"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(UserError) as error:
        imresize(noise(4, 5, 3), **arguments)
    assert text in str(error.value)


@pytest.mark.parametrize(
    "image, text",
    [
        (np.zeros((4, 4), np.int32), "dtype int32; expected uint8 or a float dtype"),
        (np.zeros((4, 4), bool), "dtype bool"),
        (np.zeros((0, 4), np.uint8), "shape (0, 4) has no pixels"),
        (np.zeros(4), "axes (0, 1) of shape (4,)"),
    ],
)
def test_bad_images(image, text):
    with pytest.raises(UserError) as error:
        imresize(image, 2)
    assert text in str(error.value)


# PROTOCOLS.md, "Super-resolution", Bicubic Set5, exact: PSNR in dB and SSIM (Gaussian)
SET5_Y = {2: ("33.6615", "0.92988"), 3: ("30.3924", "0.86821"), 4: ("28.4211", "0.81040")}
# the same page, RGB convention: low-resolution and restored RGB rounded, Y in float
SET5_RGB = {2: ("33.6734", "0.9303"), 3: ("30.4033", "0.8689"), 4: ("28.4290", "0.8111")}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_in_y(nsr_data, scale):
    def restore(truth):
        y = quantize(rgb_to_y(truth))
        restored = imresize(imresize(y.astype(np.float64), 1 / scale), scale)
        return quantize(np.clip(restored, 16, 235)), y

    mean_psnr, mean_ssim = set5_scores(nsr_data, scale, restore)
    assert (f"{mean_psnr:.4f}", f"{mean_ssim:.5f}") == SET5_Y[scale]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_in_rgb(nsr_data, scale):
    def restore(truth):
        return rgb_to_y(imresize(imresize(truth, 1 / scale), scale)), rgb_to_y(truth)

    mean_psnr, mean_ssim = set5_scores(nsr_data, scale, restore)
    assert (f"{mean_psnr:.4f}", f"{mean_ssim:.4f}") == SET5_RGB[scale]


def set5_scores(nsr_data, scale, restore):
    from nsr_cli.data.catalog import images_in
    from nsr_cli.data.images import read_image

    scores = []
    for path in images_in(nsr_data / "Set5"):
        truth = read_image(path)
        height, width = (n // scale * scale for n in truth.shape[:2])
        inner = slice(scale, height - scale), slice(scale, width - scale)
        restored, truth = restore(truth[:height, :width])
        scores.append((psnr(restored[inner], truth[inner]), ssim(restored[inner], truth[inner])))
    return np.mean(scores, axis=0)
