"""Gates of one's own: an activation function in a module outside of the package, with options of its own."""

import copy
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F

from nsr_cli.layers.gates import GATES
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsity import Sparsity
from nsr_cli.models.wdsr import WDSR

SOURCE = """
import torch
import torch.nn.functional as F

NUMBER = 3

def powers(logits, tau, training, exponent=2.0):
    weights = (logits / tau).abs() ** exponent
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights if training else weights.round()
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The name of a module that a user wrote."""
    (tmp_path / "own_gates.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_gates"
    sys.modules.pop("own_gates", None)


@pytest.mark.parametrize(("options", "exponent"), [(None, 2.0), ({"exponent": 3.0}, 3.0)])
def test_a_gate_of_ones_own_gets_logits_temperature_mode_and_its_options(own_module, options, exponent):
    torch.manual_seed(0)
    settings = {"gate": f"{own_module}.powers", "tau": 0.3, "gate_options": options}
    layer = SparseConv2d(5, 8, 3, sparsity_groups=3, cardinality=2, **settings).double()
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64)
    logits = layer.gate.linear(x.mean(dim=(2, 3))).view(4, 3, 2) / 0.3
    expected = logits.abs() ** exponent / (logits.abs() ** exponent).sum(dim=1, keepdim=True)
    torch.testing.assert_close(layer.gate(x), expected)
    assert set(layer.eval().gate(x).unique().tolist()) <= {0.0, 1.0}
    assert layer.is_gated and layer.sparsity == Sparsity(3, 2, **settings)


def test_networks_take_it_and_copies_keep_it(own_module):
    torch.manual_seed(0)
    sparsity = {"gate": f"{own_module}.powers", "sparsity_groups": 2, "gate_options": {"exponent": 1.0}}
    network = WDSR(2, blocks=1, units=4, width=1, **sparsity)
    x = torch.rand(1, 3, 6, 6)
    network(x).sum().backward()
    assert network.body[0].conv2.gate.linear.weight.grad.abs().max() > 0
    assert torch.equal(copy.deepcopy(network)(x), network(x))
    gate, features = network.body[0].conv1.gate, torch.rand(1, 4, 6, 6)
    assert torch.equal(pickle.loads(pickle.dumps(gate))(features), gate(features))


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("softmx", ""),
        ("own_gates.power", r" \(module 'own_gates' has no attribute 'power'\)"),
        ("own_gate.powers", r" \(No module named 'own_gate'\)"),
        ("own_gates.NUMBER", r" \(it is not a function\)"),
    ],
)
def test_unknown_gates_are_told_what_exists(own_module, gate, reason):
    there_are = f"there are: {', '.join(GATES)}, or your function as module.function"
    with pytest.raises(ValueError, match=f"^no gate '{gate}'{reason}; {there_are}$"):
        SparseConv2d(5, 8, 3, gate=gate)


def test_a_gate_is_given_by_its_name():
    with pytest.raises(ValueError, match="^no gate <function .*; there are: .*, or your function as module.function$"):
        SparseConv2d(5, 8, 3, gate=F.softmax)


@pytest.mark.parametrize("gate", ["own_gates.powers", "softmax", "sigmoid", "gumbel", "se"])
def test_options_that_a_gate_does_not_take_are_refused(own_module, gate):
    with pytest.raises(ValueError, match=rf"^gate_options={{'alpha': 1}}: gate={gate}: .* 'alpha'$"):
        SparseConv2d(5, 8, 3, gate=gate, gate_options={"alpha": 1})


def test_a_gate_without_an_input_takes_no_options():
    with pytest.raises(ValueError, match="^gate_options={'alpha': 1}: gate=static does not look at its input"):
        SparseConv2d(5, 8, 3, gate="static", gate_options={"alpha": 1})
