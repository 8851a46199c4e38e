"""EDSR: published parameter counts, range, and the receptive radius that tiling relies on."""

import pytest
import torch

from nsr_cli.errors import UserError
from nsr_cli.models.edsr import EDSR


@pytest.mark.parametrize(
    ("scale", "blocks", "units", "parameters"),
    [  # counts of the authors' PyTorch release, its fixed mean shifts left out
        (2, 16, 64, 1_369_859),
        (3, 16, 64, 1_554_499),
        (4, 16, 64, 1_517_571),
        (2, 32, 256, 40_729_603),
    ],
)
def test_parameters_are_the_published_ones(scale, blocks, units, parameters):
    with torch.device("meta"):
        model = EDSR(scale, blocks, units, residual_scale=0.1)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("blocks", [1, 3])
def test_halo_is_the_receptive_radius(scale, blocks):
    torch.manual_seed(0)
    model = EDSR(scale, blocks, units=4).double()
    for parameter in model.parameters():
        parameter.data.abs_()  # nothing cancels and no ReLU is closed
    x = torch.full((1, 3, 1, 41), 0.9, dtype=torch.double, requires_grad=True)
    reached = 0
    for phase in range(scale):
        (gradient,) = torch.autograd.grad(model(x)[0, 0, 0, 20 * scale + phase], x)
        seen = gradient.abs().sum(dim=(0, 1, 2)).nonzero().ravel()
        reached = max(reached, 20 - int(seen.min()), int(seen.max()) - 20)
    assert reached == model.halo


def test_the_residual_scale_counts():
    torch.manual_seed(0)
    full, tenth = EDSR(2, blocks=1, units=4), EDSR(2, blocks=1, units=4, residual_scale=0.1)
    tenth.load_state_dict(full.state_dict())
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close((tenth.body(x) - x) * 10, full.body(x) - x, atol=1e-5, rtol=1e-4)


def test_grey_images_and_other_scales():
    assert EDSR(3, blocks=1, units=4, channels=1)(torch.rand(2, 1, 5, 7)).shape == (2, 1, 15, 21)
    with pytest.raises(UserError, match=r"^no EDSR for scale 5; there are: 2, 3, 4$"):
        EDSR(5)
