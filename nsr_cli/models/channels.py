"""Networks on pictures of other channels than they read: grey ones on colour, those of RGB on grey."""

from collections.abc import Callable

from torch import Tensor, nn

from nsr_cli.errors import UserError
from nsr_cli.models.luma import GAIN, ColourByLuma, luma


class ByChannel(nn.Module):
    """A network of one channel on each of R, G and B."""

    def __init__(self, network: Callable):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, scale * H, scale * W)."""
        restored = self.network(x.flatten(0, 1)[:, None])  # (B * 3, 1, ...)
        return restored.view(x.shape[0], x.shape[1], *restored.shape[2:])


class ByLuma(nn.Module):
    """A network of one channel on MATLAB's Y, on which such are trained; chroma is kept."""

    def __init__(self, network: Callable):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B, 3, H, W) to (B, 3, H, W)."""
        y = luma(x)
        return x + (self.network(y) - y) * GAIN


class GreyAsRgb(nn.Module):
    """A network of RGB on grey: the mean of the three channels that it restores."""

    def __init__(self, network: Callable):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 1, scale * H, scale * W)."""
        return self.network(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)


def adapt_channels(network: Callable, reads: int, channels: int, scale: int, colour: str) -> Callable:
    """A method that can be given pictures of another number of channels.

    Args:
        network: (B, reads, H, W) to (B, reads, scale * H, scale * W).
        reads: 1 or 3.
        channels: of the pictures: 1 or 3.
        scale: of the network.
        colour: of one that reads a single channel: ``channels``, each of R, G and B; ``luma``, with chroma kept, or
            enlarged bicubically.
    """
    if reads not in (1, 3):
        raise UserError(f"a network of {reads} channels; expected one of 1 or 3 to restore pictures")
    if reads == channels:
        return network
    if reads == 3:
        return GreyAsRgb(network)
    if colour == "channels":
        return ByChannel(network)
    return ByLuma(network) if scale == 1 else ColourByLuma(network)
