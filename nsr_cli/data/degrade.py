"""Degradations: bicubic down-scaling, Gaussian noise, JPEG; and the forms of input images: RGB, luma, grey."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from nsr_cli.data.catalog import lr_partner
from nsr_cli.data.images import read_image
from nsr_cli.errors import UserError
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.resize import imresize

NOISE_ROWS = 64


def modcrop(image: np.ndarray, scale: int) -> np.ndarray:
    """The image cut at right and bottom, so that both sides are multiples of ``scale``."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The image as (H, W, 3); a grey image is repeated."""
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def as_grey(image: np.ndarray) -> np.ndarray:
    """The image as grey (H, W) uint8, 0..255: ITU-R 601 luma by OpenCV, as in denoising papers."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def as_luma(image: np.ndarray) -> np.ndarray:
    """MATLAB's Y of the image, (H, W) uint8, rounded; a grey image is its own Y."""
    return quantize(rgb_to_y(image))


GIVEN = {"rgb": as_rgb, "luma": as_luma, "grey": as_grey}  # forms of input images


def downscale(image: np.ndarray, scale: int) -> np.ndarray:
    """The image reduced to 1/scale by MATLAB's bicubic; uint8 is rounded, float is not."""
    return imresize(image, 1 / scale)


def low_resolution(path: Path, truth: np.ndarray, scale: int, partner: Path | None = None) -> np.ndarray:
    """The low-resolution image of a file, uint8: its partner, DIV2K's official one, or MATLAB's bicubic.

    Args:
        path: of the image.
        truth: the image, cut to a multiple of the scale; RGB or luma. DIV2K has no official luma.
        scale: side of the truth over the side of the returned image.
        partner: file of its given low-resolution image, or None.

    Raises:
        UserError: the low-resolution image has the wrong size, or cannot be read.
    """
    if partner is None:
        partner = lr_partner(path, scale)
        if partner is None or truth.ndim == 2:
            return downscale(truth, scale)
    degraded = (as_luma if truth.ndim == 2 else as_rgb)(read_image(partner))
    expected = (truth.shape[0] // scale, truth.shape[1] // scale)
    if degraded.shape[:2] != expected:
        found = f"{degraded.shape[1]}x{degraded.shape[0]}"
        raise UserError(f"{partner} is {found}, expected {expected[1]}x{expected[0]}: {path.name} at 1/{scale}")
    return degraded


def add_noise(image: np.ndarray, sigma: float, generator: np.random.Generator | np.random.RandomState) -> np.ndarray:
    """An image in 0..255 with Gaussian noise of ``sigma`` (in 0..255): float32, neither clipped nor quantised."""
    noisy = np.empty(image.shape, np.float32)
    for top in range(0, len(image), NOISE_ROWS):  # the same numbers as in one draw, in less memory
        rows = slice(top, top + NOISE_ROWS)
        noise = generator.standard_normal(image[rows].shape)
        noisy[rows] = (image[rows] / 255.0 + sigma / 255.0 * noise).astype(np.float32) * np.float32(255)
    return noisy


def evaluation_noise(path: Path, sigma: float) -> np.random.Generator:
    """The generator of an image's noise, which depends on the file's name and sigma alone."""
    key = hashlib.sha256(f"{path.stem} {sigma:g}".encode(errors="surrogateescape")).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(key[:8], "little")))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """A grey uint8 image after JPEG compression at ``quality`` (1 to 100)."""
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
