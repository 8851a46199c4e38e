"""VDSR (Kim et al., CVPR 2016): bicubic upscaling, and a deep network that predicts the residual."""

from torch import Tensor, nn

from nsr_cli.classical.bicubic import bicubic


class VDSR(nn.Module):
    """Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks" (CVPR 2016).

    664,704 multiply-accumulates per pixel of the *upscaled* image, which is the network's input. The NSR
    paper prints 0.67 million, as the 665,921 parameters round.

    Args:
        scale: up-scaling factor; one set of weights serves every scale.
        layers, width: number of 3x3 convolutions, and their channels.
    """

    def __init__(self, scale: int, layers: int = 20, width: int = 64):
        super().__init__()
        self.scale = self.enlarges = scale
        self.halo = -(-layers // scale) + 2  # the layers at the output's resolution, then the bicubic kernel
        sides = [1, *[width] * (layers - 1), 1]
        convs = [nn.Conv2d(sides[i], sides[i + 1], 3, padding=1) for i in range(layers)]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        self.residual = nn.Sequential(convs[0], *[m for conv in convs[1:] for m in (nn.ReLU(), conv)])

    def forward(self, x: Tensor) -> Tensor:
        """Luma (B, 1, H, W) in [0, 1] to (B, 1, scale * H, scale * W). No gradient reaches the input."""
        upscaled = bicubic(x, self.scale).clamp(16 / 255, 235 / 255)  # the range of MATLAB's luma
        return upscaled + self.residual(upscaled)
