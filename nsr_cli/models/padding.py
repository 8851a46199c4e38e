"""Networks whose input's sides must be multiples of a number, on images of any size."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def multiple_of(network: Callable) -> int:
    """What the sides of a network's input must be multiples of; 1 by default."""
    return getattr(network, "multiple", 1)


def at_least(side: int, network: Callable) -> int:
    """The smallest side of a network's input from ``side`` on, in pixels."""
    return side + -side % multiple_of(network)


def padded(network: Callable, images: Tensor) -> Tensor:
    """The network's output; images are extended by their edge pixels to its ``multiple``, and the output is cut.

    Args:
        network: (B, C, H, W) to (B, C, scale * H, scale * W).
        images: (B, C, H, W), of any height and width.

    Returns:
        (B, C, scale * H, scale * W)
    """
    height, width = images.shape[2:]
    right, bottom = at_least(width, network) - width, at_least(height, network) - height
    if not (right or bottom):
        return network(images)
    restored = network(F.pad(images, (0, right, 0, bottom), mode="replicate"))
    scale = restored.shape[2] // (height + bottom)
    return restored[:, :, : height * scale, : width * scale]
