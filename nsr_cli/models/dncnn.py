"""DnCNN (Zhang et al., TIP 2017): a network that predicts the noise, which is subtracted."""

from torch import Tensor, nn


class DnCNN(nn.Module):
    """Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", 2017.

    With the 17 layers of Gaussian denoising: 554,112 multiply-accumulates per input pixel (the NSR paper
    prints 0.55 million), 555,137 parameters. DnCNN-3, which also removes JPEG artifacts, has 20 layers.

    Args:
        layers, width: number of 3x3 convolutions, and their channels.
        channels: 1 for grey or luma, 3 for RGB.
        batch_norm: normalise after each convolution but the first and the last, as in the original training.
            The published weights have these layers merged into the convolutions.
    """

    def __init__(self, layers: int = 17, width: int = 64, channels: int = 1, batch_norm: bool = False):
        super().__init__()
        self.halo = layers
        modules = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(layers - 2):
            modules.append(nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm))
            modules.extend([nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()])
        self.noise = nn.Sequential(*modules, nn.Conv2d(width, channels, 3, padding=1))
        for module in self.noise:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Degraded (B, C, H, W) in [0, 1] to restored, same shape, not clipped."""
        return x - self.noise(x)
