"""The luma of MATLAB's `rgb2ycbcr`, and rounding to 8 bits."""

import numpy as np

from nsr_cli.errors import UserError

_LUMA = np.array([65481.0, 128553.0, 24966.0])  # thousandths, so that 8-bit images are summed exactly
_STRIP = 1 << 18  # pixels converted at a time


def rgb_to_y(image: np.ndarray) -> np.ndarray:
    """Luma as MATLAB's `rgb2ycbcr` computes it: 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        image: (H, W, 3) RGB in 0..255, uint8 or float; or a grey (H, W) image, which is its own Y.

    Returns:
        float64 (H, W), not rounded: 16..235 from RGB, 0..255 from grey.

    Raises:
        UserError: another shape.

    Source: ITU-R BT.601, 8-bit studio range; MATLAB's `rgb2ycbcr`.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        return image.astype(np.float64)
    if image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"rgb_to_y: an image of shape {image.shape}; expected (H, W, 3) RGB or (H, W) grey")
    y = np.empty(image.shape[:2])
    rows = max(1, _STRIP // max(1, image.shape[1]))
    for top in range(0, len(image), rows):
        strip = y[top : top + rows]
        np.matmul(image[top : top + rows].astype(np.float64), _LUMA, out=strip)
        strip /= 255_000
        strip += 16
    return y


def quantize(image: np.ndarray, dtype: type[np.unsignedinteger] = np.uint8) -> np.ndarray:
    """Round to whole numbers, half away from zero, and clip to 0..255, or to the range of another dtype.

    Args:
        image: array of any shape, float or integer.
        dtype: uint8 or uint16.

    Returns:
        A new array of that dtype and of the same shape.

    Raises:
        UserError: the image holds NaN.
    """
    image, most = np.asarray(image), np.iinfo(dtype).max
    if not np.issubdtype(image.dtype, np.floating):
        return np.clip(image, 0, most).astype(dtype)
    if image.size and np.isnan(image.min()):
        raise UserError("quantize: the image holds NaN; expected numbers")
    zero, half = image.dtype.type(0), image.dtype.type(0.5)
    rounded = image + np.nextafter(half, zero)  # the number just below 0.5, plus 0.5, would be 1
    return np.clip(rounded, 0, most, out=rounded).astype(dtype)
