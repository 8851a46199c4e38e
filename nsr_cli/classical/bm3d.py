"""BM3D (Dabov et al., TIP 2007), by Tampere University's implementation, the package bm3d."""

import torch
from torch import Tensor

from nsr_cli.errors import UserError

BLOCK = 8  # pixels a side, of the default profile


def bm3d(x: Tensor, sigma: float) -> Tensor:
    """Remove white Gaussian noise of known strength, by the package's default profile, in one thread.

    Dabov et al., "Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering" (TIP 2007).

    Args:
        x: noisy grey images (B, 1, H, W), nominally in [0, 1], neither clipped nor quantised.
        sigma: standard deviation of the noise in grey levels of 0..255.

    Returns:
        (B, 1, H, W), in the dtype and on the device of ``x``, not clipped.

    Raises:
        UserError: the package is missing, or the images are not grey or hold at most one block.
    """
    if x.dim() != 4 or x.shape[1] != 1:
        raise UserError(f"BM3D restores grey images (B, 1, H, W); these are {tuple(x.shape)}")
    if min(x.shape[2:]) < BLOCK or x.shape[2:].numel() == BLOCK**2:  # on a single block the package crashes
        raise UserError(
            f"BM3D compares blocks of {BLOCK}x{BLOCK} pixels, two at least; these images are {tuple(x.shape)}"
        )
    try:
        import bm3d as package
    except ImportError as error:
        raise UserError(f"BM3D needs the package bm3d: pip install nsr[bm3d] ({error})") from None
    profile = package.BM3DProfile()
    profile.num_threads = 1  # with more, the order of summation varies from call to call, and so does the result
    noisy = x.detach().cpu().double().numpy()
    restored = [torch.from_numpy(package.bm3d(image[0], sigma_psd=sigma / 255, profile=profile)) for image in noisy]
    return torch.stack(restored).view(x.shape).to(x)
