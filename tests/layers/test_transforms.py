"""The layer under torch.func, torch.export, torch.compile and torch.jit.trace: the same numbers as without them."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.sparse_conv import SparseConv2d

GATES = ("softmax", "sigmoid", "gumbel", "se", "static", "none")
SIZES = {"small": (16, 24), "large": (64, 48)}  # channels and side; with AVX512 the samples of the large go one by one


@pytest.fixture(params=[*SIZES, "large, as groups"])
def case(request, monkeypatch) -> tuple[SparseConv2d, Tensor]:
    """A layer in double precision and a batch of three."""
    name, _, way = request.param.partition(", ")
    monkeypatch.setattr(choice, "has_avx512", lambda: True)
    if way:
        monkeypatch.setattr(choice, "LARGE", math.inf)
    torch.manual_seed(0)
    channels, side = SIZES[name]
    layer = SparseConv2d(channels, channels, 3, padding=1, cardinality=4, tau=0.5, dtype=torch.float64)
    return layer, torch.randn(3, channels, side, side, dtype=torch.float64)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_large_case_is_computed_one_by_one_without_a_transform(monkeypatch):
    monkeypatch.setattr(choice, "has_avx512", lambda: True)
    x, kernel = torch.empty(3, 64, 48, 48), (64, 64, 3, 3)
    assert choice.fastest(x, kernel, (1, 1), (1, 1), (1, 1)) == per_sample.ONE_BY_ONE


@torch.no_grad()
def test_vmap_over_samples_and_over_batches(case):
    layer, x = case
    close(vmap(layer)(x), layer(x))
    close(vmap(layer)(x[None]), layer(x)[None])


@torch.no_grad()
def test_vmap_over_an_ensemble_of_layers(case):
    layer, x = case
    layers = [layer, copy.deepcopy(layer)]
    for parameter in layers[1].parameters():
        parameter += 0.1
    parameters, buffers = stack_module_state(layers)
    together = vmap(lambda p, b: functional_call(layer, (p, b), (x,)))(parameters, buffers)
    close(together, torch.stack([one(x) for one in layers]))


def test_gradients_of_each_sample(case):
    """vmap of grad under functional_call, against autograd of one sample after the other."""
    layer, x = case
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(layer, parameters, (sample[None],)).square().mean()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        expected = torch.autograd.grad(layer(sample[None]).square().mean(), [*layer.parameters()])
        for name, gradient in zip(parameters, expected, strict=True):
            close(found[name][i], gradient)


def test_directional_derivatives_are_adjoint_to_gradients(case):
    """<v, J u> = <J^T v, u>: forward mode by torch.func and by dual numbers, against autograd's reverse mode."""
    layer, x = case
    u, v = torch.randn_like(x), torch.randn_like(x)
    leaf = x.clone().requires_grad_()
    (backward,) = torch.autograd.grad(layer(leaf), leaf, v)
    _, forward = jvp(layer, (x,), (u,))
    close((v * forward).sum(), (backward * u).sum())
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(layer(forward_ad.make_dual(x, u))).tangent, forward)


@torch.no_grad()
def test_an_exported_program_takes_any_batch_height_and_width(case):
    layer, x = case
    sizes = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": sizes}).module()
    for shape in ((3, 24, 24), (1, 17, 9), (5, 24, 31)):
        other = torch.randn(shape[0], layer.in_channels, *shape[1:], dtype=torch.float64)
        close(program(other), layer(other))


@torch.no_grad()
def test_a_program_exported_for_one_size_convolves(case):
    """What exporters of fixed sizes need: one convolution of the samples as groups, no product of unfolded pixels."""
    layer, x = case
    program = torch.export.export(layer, (x,)).module()
    close(program(x), layer(x))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.conv2d.default" in called and "aten.im2col.default" not in called


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@torch.no_grad()
def test_a_traced_layer_takes_any_batch_height_and_width(case):
    layer, x = case
    traced = torch.jit.trace(layer, (x,))
    for shape in ((3, 24, 24), (1, 17, 9), (5, 24, 31)):
        other = torch.randn(shape[0], layer.in_channels, *shape[1:], dtype=torch.float64)
        close(traced(other), layer(other))


@pytest.mark.parametrize("cardinality", [4, 3])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@torch.no_grad()
def test_the_older_onnx_exporter_takes_the_layer(tmp_path, cardinality):
    """torch.onnx.export by a trace, as KAIR and BasicSR do it; once the size of the kernel was unknown to it."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layer = nn.Sequential(SparseConv2d(8, 8, 3, stride=2, padding=1, cardinality=cardinality)).eval()
    axes = {"x": {0: "batch", 2: "height", 3: "width"}}
    x, path = torch.randn(2, 8, 9, 10), tmp_path / "layer.onnx"
    torch.onnx.export(layer, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for image in (x, torch.randn(3, 8, 12, 7)):
        (found,) = session.run(None, {"x": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), layer(image))


@pytest.mark.parametrize("size", SIZES)
def test_compiled_graphs_of_any_size_have_the_same_values_and_gradients(size):
    """Forward and backward as torch.compile traces them, in one graph with all sizes left open; run without codegen."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    channels, side = SIZES[size]
    layer = SparseConv2d(channels, channels, 3, padding=1, cardinality=4, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, height in ((2, side), (3, side - 5)):
        x = torch.randn(batch, channels, height, side, dtype=torch.float64, requires_grad=True)
        ours, theirs = compiled(x), layer(x)
        close(ours, theirs)
        leaves = [x, *layer.parameters()]
        found = [torch.autograd.grad(out.square().mean(), leaves) for out in (ours, theirs)]
        for ours, theirs in zip(*found, strict=True):
            close(ours, theirs)


@pytest.mark.parametrize(("size", "dynamic"), [("small", False), ("large", False), ("large", True)])
@torch.no_grad()
def test_compiled_code_computes_the_same(size, dynamic):
    torch._dynamo.reset()
    torch.manual_seed(0)
    channels, side = SIZES[size]
    layer = SparseConv2d(channels, channels, 3, padding=1, cardinality=4)
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic)
    for shape in ((2, channels, side, side), (3, channels, side - 8, side))[: 1 + dynamic]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("settings", [{}, {"groups": 4}, {"form": "exact"}, {"inference": "hard"}])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@torch.no_grad()
def test_every_gate_form_and_inference(gate, settings):
    if gate in ("static", "none") and settings.get("form") == "exact":
        pytest.skip("no such layer")
    torch.manual_seed(0)
    sparsity = {"sparsity_groups": 3, "cardinality": 4, "gate": gate, **settings}
    layer = SparseConv2d(8, 8, 3, stride=2, padding_mode="reflect", padding=1, **sparsity).double().eval()
    x = torch.randn(3, 8, 9, 8, dtype=torch.float64)
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": sizes}).module()
    traced = torch.jit.trace(layer, (x,))
    other = torch.randn(5, 8, 11, 13, dtype=torch.float64)
    for batch in (x, other):
        for function in (vmap(layer), program, traced):
            close(function(batch), layer(batch))
    _, forward = jvp(layer, (x,), (x,))
    assert forward.shape == layer(x).shape


@pytest.mark.parametrize("gate", GATES)
def test_device_and_dtype_are_those_of_every_parameter(gate):
    sparsity = {"gate": gate, "gate_hidden": 3 if gate == "softmax" else 0, "learn_tau": gate == "softmax"}
    layer = SparseConv2d(6, 8, 3, device="meta", dtype=torch.bfloat16, cardinality=2, **sparsity)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}
    out = layer(torch.empty(2, 6, 9, 9, device="meta", dtype=torch.bfloat16))
    assert (out.shape, out.device.type, out.dtype) == ((2, 8, 7, 7), "meta", torch.bfloat16)


@pytest.mark.parametrize("gate", GATES)
def test_a_layer_made_without_memory_is_filled_in_later(gate):
    """The way of large networks: made on the meta device, given memory, then reset module by module."""
    sparsity = {"gate": gate, "learn_tau": gate == "softmax", "tau": 0.3}
    torch.manual_seed(0)
    usual = SparseConv2d(6, 8, 3, **sparsity)
    layer = SparseConv2d(6, 8, 3, device="meta", **sparsity).to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.constant_(parameter, math.nan)
    torch.manual_seed(0)
    for module in layer.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for name, value in usual.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value), name


def test_meta_tensors_of_the_large_size():
    with torch.device("meta"):
        layer, x = SparseConv2d(64, 64, 3, padding=1), torch.empty(3, 64, 48, 48)
    assert layer(x).shape == x.shape
