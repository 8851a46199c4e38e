"""The images of the tests of image files, and what a refusal says."""

import numpy as np
import pytest

from nsr_cli.errors import UserError


def photo(height=40, width=56):
    """Smooth colour with some noise, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


RGB = photo()
GREY = RGB[..., 0].copy()


def refusal(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    text = str(error.value)
    assert "\n" not in text
    return text
