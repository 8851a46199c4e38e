"""Networks on pictures with other channels than they read: one-channel networks on colour, RGB networks on grey."""

from collections.abc import Callable

from torch import Tensor

from nsr_cli.errors import UserError
from nsr_cli.models.luma import GAIN, Adapter, ColourByLuma, luma


class ByChannel(Adapter):
    """A one-channel network, applied to each of R, G and B."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, scale * H, scale * W)."""
        restored = self.restore(x.flatten(0, 1)[:, None])  # (B * 3, 1, ...)
        return restored.view(x.shape[0], x.shape[1], *restored.shape[2:])


class ByLuma(Adapter):
    """A one-channel network, applied to MATLAB's Y, as it was trained; chroma is kept."""

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) to (B, 3, H, W)."""
        y = luma(x)
        return x + (self.restore(y) - y) * GAIN


class GreyAsRgb(Adapter):
    """An RGB network, applied to grey: returns the mean of the three restored channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 1, scale * H, scale * W)."""
        return self.restore(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)


def adapt_channels(network: Callable, reads: int, channels: int, scale: int, colour: str) -> Callable:
    """A method that restores pictures of a given number of channels by a network.

    Args:
        network: (B, reads, H, W) to (B, reads, scale * H, scale * W).
        reads: channels of the network, 1 or 3.
        channels: of the pictures, 1 or 3.
        scale: of the network.
        colour: how a one-channel network restores colour: ``channels``, each of R, G and B; or ``luma``, with chroma
            kept, or enlarged bicubically.

    Raises:
        UserError: the network reads another number of channels.
    """
    if reads not in (1, 3):
        raise UserError(f"a network of {reads} channels; expected one of 1 or 3 to restore pictures")
    if reads == channels:
        return network
    if reads == 3:
        return GreyAsRgb(network)
    if colour == "channels":
        return ByChannel(network)
    return ByLuma(network) if scale == 1 else ColourByLuma(network, scale)
