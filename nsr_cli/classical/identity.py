"""The degraded image as it is."""

from torch import Tensor


def identity(x: Tensor) -> Tensor:
    """Restores nothing: the JPEG and noisy rows of the tables."""
    return x
