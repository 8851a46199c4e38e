"""The forms of the sparse convolution (Eq. 8 and 9), squeeze-and-excitation, and hard inference."""

import pytest
import torch
import torch.nn.functional as F
from definition import by_definition
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nsr_cli.layers.sparse_conv import SparseConv2d


@pytest.mark.parametrize("cardinality", [1, 3, 4])
def test_weighted_branches_equal_the_reduced_form(cardinality):
    """Eq. 8 against Eq. 9, and both against the definition."""
    torch.manual_seed(0)
    settings = {"padding": 1, "sparsity_groups": 3, "cardinality": cardinality}
    reduced, exact = (SparseConv2d(5, 6, 3, form=form, **settings).double() for form in ("reduced", "exact"))
    exact.load_state_dict(reduced.state_dict())
    x = torch.randn(2, 5, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(exact(x), reduced(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(exact(x), by_definition(exact, x, exact.gate(x)), rtol=0, atol=1e-12)


def test_squeeze_and_excitation_runs_one_convolution_of_the_whole_batch():
    """Multiply-accumulates as PyTorch counts them: the plain convolution's and the gate's, no kernel a sample."""
    counted = []
    for layer in (SparseConv2d(5, 7, 3, gate="se"), nn.Conv2d(5, 7, 3)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.randn(4, 5, 9, 9))
        counted.append(counter.get_flop_counts()["Global"])
    convolution, gate = torch.ops.aten.convolution, torch.ops.aten.addmm
    assert counted[0] == {**counted[1], gate: 2 * 4 * 5 * 7} and [*counted[1]] == [convolution]


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="^form=full: expected one of reduced, exact$"):
        SparseConv2d(5, 8, 3, form="full")


@pytest.mark.parametrize(("gate", "d", "channels"), [("softmax", 1, 6), ("softmax", 4, 7), ("sigmoid", 3, 6)])
def test_hard_inference_is_the_group_of_the_largest_gate(gate, d, channels):
    """Eq. 5 and 6: the definition with a one-hot gate; training goes on with the mixture."""
    torch.manual_seed(0)
    layer = SparseConv2d(5, channels, 3, sparsity_groups=3, cardinality=d, gate=gate, inference="hard").double()
    x = torch.randn(9, 5, 7, 8, dtype=torch.float64)
    soft = layer.gate(x)
    one_hot = F.one_hot(soft.argmax(dim=1), 3).permute(0, 2, 1).double()  # (B, k, d)
    assert len(soft.argmax(dim=1).unique()) > 1
    torch.testing.assert_close(layer.train()(x), by_definition(layer, x, soft), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.eval()(x), by_definition(layer, x, one_hot), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cardinality", [1, 4])
def test_hard_inference_computes_the_chosen_group_alone(cardinality):
    """Multiply-accumulates as PyTorch counts them: one convolution and the gate's product, nothing for mixing."""
    settings = {"padding": 1, "sparsity_groups": 4, "cardinality": cardinality}
    counted = {}
    for inference in ("soft", "hard"):
        layer = SparseConv2d(8, 16, 3, inference=inference, **settings).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(torch.randn(2, 8, 10, 10))
        counted[inference] = counter.get_total_flops() // 2
    convolution, gate, mixing = 2 * 16 * 8 * 9 * 100, 2 * 8 * 4 * cardinality, 2 * (4 * 16 * 8 * 9 + 4 * 16)
    assert counted == {"hard": convolution + gate, "soft": convolution + gate + mixing}


def test_hard_inference_of_a_gumbel_gate_changes_nothing():
    torch.manual_seed(0)
    layer = SparseConv2d(5, 8, 3, gate="gumbel", cardinality=2).eval()
    x = torch.randn(6, 5, 7, 7)
    soft = layer(x)
    layer.inference = "hard"
    torch.testing.assert_close(layer(x), soft)


def test_an_unknown_inference_is_refused():
    with pytest.raises(ValueError, match="^inference=firm: expected soft or hard$"):
        SparseConv2d(5, 8, 3, inference="firm")
