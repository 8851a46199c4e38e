"""Autocast to 16 bits, and its products in fp32 where a CPU has no instructions for them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.layers import half, per_sample
from nsr_cli.layers.half import autocast
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.models.wdsr import WDSR

CPU = torch.device("cpu")


@pytest.fixture
def in_software(monkeypatch):
    """A function: it sets whether this CPU is taken for one without 16-bit instructions."""

    def take(yes: bool) -> None:
        for module in (half, per_sample):
            monkeypatch.setattr(module, "is_in_software", lambda device, dtype: yes and dtype is not None)

    return take


def outcome(network: nn.Module, image: Tensor, context) -> list[Tensor]:
    """The output of a network and its gradients."""
    network.zero_grad()
    with context:
        out = network(image)
    out.float().square().sum().backward()
    return [out, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("way", per_sample.EVERYWHERE)
@pytest.mark.parametrize("yes", [False, True])
def test_half_precision_in_a_float32_layer_is_refused_as_by_torch(in_software, yes, way):
    in_software(yes)  # once one by one took it, where 16 bits are computed in fp32
    with pytest.raises(RuntimeError, match="type|dtype"):
        SparseConv2d(8, 8, 3, way=way)(torch.rand(2, 8, 6, 5, dtype=torch.half))


@pytest.mark.parametrize("way", per_sample.EVERYWHERE)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_products_in_fp32_equal_torchs_own_to_rounding(in_software, precision, way):
    torch.manual_seed(0)
    sparse = SparseConv2d(8, 8, 3, padding=1, gate="softmax", way=way)
    head = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
    network = nn.Sequential(*head, sparse, nn.Flatten(), nn.Linear(8 * 6 * 5, 4))
    image = torch.rand(2, 3, 6, 5)
    dtype = half.DTYPES[precision]
    in_software(False)
    expected = outcome(network, image, autocast(CPU, precision))
    in_software(True)
    found = outcome(network, image, autocast(CPU, precision))
    assert found[0].dtype == expected[0].dtype == dtype
    unit = {"bf16": 2**-8, "fp16": 2**-11}[precision]
    for one, other in zip(found, expected, strict=True):
        assert (one - other).float().norm() <= 4 * unit * other.float().norm()
    exact = outcome(network, image, autocast(CPU, "fp32"))
    assert not torch.equal(exact[0], found[0].float()), "nothing was rounded"


def test_numbers_are_rounded_before_and_after_and_summed_in_fp32(in_software):
    in_software(True)
    x, weight = torch.tensor([[1 + 2**-7, 2**-12, 1 + 2**-10]]), torch.tensor([[1.0, 1.0, 1.0]])
    with autocast(CPU, "bf16"):
        found = F.linear(x, weight), x @ weight.T
    expected = (x.bfloat16().double() @ weight.bfloat16().double().T).bfloat16()
    assert all(torch.equal(one, expected) for one in found)
    with autocast(CPU, "bf16"):  # which leaves doubles alone
        assert torch.equal(F.linear(x.double(), weight.double()), x.double() @ weight.double().T)


def test_the_papers_network_trains(in_software):
    in_software(True)
    torch.manual_seed(0)
    network = WDSR(scale=2, blocks=1, units=8, width=2, gate="softmax")
    image = torch.rand(2, 3, 40, 40)
    found = outcome(network, image, autocast(CPU, "bf16"))
    exact = outcome(network, image, autocast(CPU, "fp32"))
    for one, other in zip(found, exact, strict=True):
        assert torch.isfinite(one).all() and (one - other).norm() <= 0.1 * other.norm() + 1e-3
