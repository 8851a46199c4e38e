"""Networks as .safetensors: they open by themselves, compute what the run did, and no damaged one opens."""

import json
import struct
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from nsr_cli import names
from nsr_cli.errors import UserError
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.models.weights import load_weights
from nsr_cli.models.weights.read import DIGEST, digest_of
from nsr_cli.runs.build import build, fresh_method
from nsr_cli.runs.portable import find_spec, open_network, portable_copy, read_spec, save_portable

CPU = torch.device("cpu")
SMALL = "blocks=1 units=4 width=2 patch=24"
GATES = ("none", "softmax", "uniform", "static", "se", "sigmoid", "gumbel")
TASKS = ("sr scale=3", "denoise", "dejpeg")


def randomised(network: nn.Module) -> nn.Module:
    """With other numbers than a fresh network's, as if it were trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@pytest.fixture
def network_of(asked):
    """A network and the Spec of a command line."""

    def make(line: str) -> tuple:
        run = asked(f"ablate {line}")
        return randomised(build(run, CPU)), run.spec

    return make


def image(spec, side: int = 30) -> torch.Tensor:
    return torch.rand(2, 1 if spec.model.reads[0] == "luma" or spec.task["name"] != "sr" else 3, side, side + 2)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("gate", GATES)
@torch.no_grad()
def test_a_file_opens_by_itself_and_computes_the_same(network_of, tmp_path, gate, task):
    network, spec = network_of(f"sparsity={gate} task={task} {SMALL}")
    path, x = tmp_path / "net.safetensors", image(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    save_portable(path, network, spec)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    opened, found = open_network(path, CPU)
    assert (found, opened.tile, opened.training) == (spec, 24, False)
    torch.testing.assert_close(opened(x), network(x), rtol=1e-5, atol=1e-5)
    sparse = [m for m in opened.modules() if isinstance(m, SparseConv2d)]
    assert bool(sparse) == (gate not in ("none", "uniform", "static"))
    assert not any("parametrizations" in name for name in opened.state_dict())
    fresh = fresh_method(spec).eval()
    loaded = load_weights(fresh, path)  # into the layers that they were folded from
    assert (loaded.architecture, loaded.tile) == ("WDSR", 24)
    torch.testing.assert_close(fresh(x), network(x), rtol=1e-5, atol=1e-5)


ATTACHED = ["model=dncnn task=denoise", "model=edsr scale=4 blocks=1 units=4", "model=vdsr"]


@pytest.mark.parametrize(
    "line", [f"{line} sparsity={gate} groups=2" for line in ATTACHED for gate in ("none", "softmax", "static")]
)
@torch.no_grad()
def test_networks_that_sparse_convolutions_are_attached_to(network_of, tmp_path, line):
    network, spec = network_of(line)
    save_portable(tmp_path / "net", network, spec)
    opened, _ = open_network(tmp_path / "net", CPU)
    x = torch.rand(1, 3 if "edsr" in line else 1, 28, 24)
    torch.testing.assert_close(opened(x), network(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_shared_gate_a_hidden_layer_and_a_learned_temperature(network_of, tmp_path):
    network, spec = network_of(f"sparsity=softmax shared_gate=true gate_hidden=3 learn_tau=true {SMALL}")
    save_portable(tmp_path / "net", network, spec)
    x = image(spec)
    torch.testing.assert_close(open_network(tmp_path / "net", CPU)[0](x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gate", ["softmax", "static"])
@torch.no_grad()
def test_hard_inference_is_kept(network_of, tmp_path, asked, gate):
    network, spec = network_of(f"sparsity={gate} {SMALL}")
    soft, x = network(image(spec)), image(spec)
    hard = replace(spec, inference="hard")
    save_portable(tmp_path / "net", network, hard)
    opened, found = open_network(tmp_path / "net", CPU)
    for layer in network.modules():
        if isinstance(layer, SparseConv2d):
            layer.inference = "hard"
    assert found.inference == "hard" and not torch.equal(opened(x), soft)
    torch.testing.assert_close(opened(x), network(x), rtol=1e-5, atol=1e-5)
    line = f"eval model=wdsr sparsity={gate} blocks=1 units=4 width=2 ckpt={tmp_path}/net"
    build(asked(f"{line} inference=hard"), CPU)
    if gate == "static":  # whose other kernels are not in the file
        with pytest.raises(UserError, match="inference=soft: .* holds kernels that were merged for inference=hard"):
            build(asked(line), CPU)


@torch.no_grad()
def test_a_kernel_of_zeros_stays_one(network_of, tmp_path):
    network, spec = network_of(f"sparsity=none {SMALL}")
    network.head.parametrizations.weight.original0[1] = 0
    save_portable(tmp_path / "net", network, spec)
    fresh, x = fresh_method(spec).eval(), image(spec)
    load_weights(fresh, tmp_path / "net")
    torch.testing.assert_close(fresh(x), network(x), rtol=1e-5, atol=1e-5)


# Files that are not


@pytest.fixture
def saved(network_of, tmp_path):
    network, spec = network_of(f"sparsity=softmax {SMALL}")
    save_portable(tmp_path / "net", network, spec)
    return tmp_path / "net"


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        open_network(path, CPU)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "FILE")


def rewritten(path, change) -> None:
    """The same file with its metadata changed by someone who keeps its digest right."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    del metadata[DIGEST]
    change(metadata)
    save_file(tensors, path, metadata | {DIGEST: digest_of(tensors, metadata)})


def test_any_changed_byte_is_refused(saved):
    whole = saved.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for at in [*range(0, header, 97), *range(header, len(whole), 211), len(whole) - 1]:
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        saved.write_bytes(changed)
        assert "FILE: " in refusal(saved), at
    for length in (0, 7, 300, header, len(whole) - 1):
        saved.write_bytes(whole[:length])
        assert "FILE: " in refusal(saved), length


def test_files_without_a_network_of_ours(tmp_path, saved):
    from safetensors.torch import save_file

    assert refusal(tmp_path / "nothing") == "no weights file FILE"
    expected = "FILE: does not say which network it is of; expected a .safetensors file of `nsr export`"
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    save_file({"a": torch.zeros(2)}, tmp_path / "b")
    assert refusal(tmp_path / "a.pt") == refusal(tmp_path / "b") == expected


def test_another_version_is_told(saved):
    def with_a_key_of_tomorrow(metadata: dict) -> None:
        metadata["spec"] = json.dumps(json.loads(metadata["spec"]) | {"tomorrow": 1})

    rewritten(saved, with_a_key_of_tomorrow)
    assert refusal(saved).startswith("FILE: its Spec is of another version of nsr, or damaged (")


@pytest.mark.parametrize("where", ["model", "task"])
def test_a_file_names_no_code_but_networks_and_tasks(saved, tmp_path, where):
    spec = read_spec(saved)
    target = "os.mkdir"
    spec = replace(spec, task=spec.task | {"target": target}) if where == "task" else spec
    arguments = {"path": str(tmp_path / "pwned")}
    spec = replace(spec, model=replace(spec.model, target=target, arguments=arguments)) if where == "model" else spec
    rewritten(saved, lambda metadata: metadata.update(spec=json.dumps(spec.signed), signature=spec.signature))
    assert refusal(saved).startswith("FILE: names os.mkdir; expected a subclass of ")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("where", ["model", "task", "gate"])
@pytest.mark.parametrize("target", ["idlelib.idle.Net", "ensurepip.__main__.N", "my_script.Net", "my_script.__name__"])
def test_no_module_is_imported_for_a_name_that_it_does_not_define(saved, write, tmp_path, where, target):
    write("my_script.py", f"open({str(tmp_path / 'pwned')!r}, 'w')")
    spec = renamed(read_spec(saved), where, target)
    rewritten(saved, lambda metadata: metadata.update(spec=json.dumps(spec.signed), signature=spec.signature))
    loaded = set(sys.modules)
    assert f"{target}; expected " in refusal(saved)
    assert not (tmp_path / "pwned").exists()
    assert not {target.rpartition(".")[0], target.partition(".")[0]} & (set(sys.modules) - loaded)


def test_a_gate_is_a_function_of_nsr_or_of_the_user(saved, write):
    write("my_gate.py", "import torch\ndef soft(logits, tau, training): return torch.softmax(logits / tau, 1)")
    whole = saved.read_bytes()
    for gate, opens in (("os.mkdir", False), ("torch.relu", False), ("my_gate.soft", True)):
        spec = renamed(read_spec(saved), "gate", gate)
        rewritten(saved, lambda m, spec=spec: m.update(spec=json.dumps(spec.signed), signature=spec.signature))
        if opens:
            open_network(saved, CPU)
        else:
            assert refusal(saved).startswith(f"FILE: names the gate {gate}; expected ")
            saved.write_bytes(whole)


def test_a_class_of_an_installed_package_is_taken_where_the_user_names_it(saved, write, monkeypatch):
    write("my_net.py", "from torch import nn\nclass Net(nn.Module): pass")
    monkeypatch.setattr(names, "is_own", lambda module: False)  # as if it were installed
    spec = renamed(read_spec(saved), "model", "my_net.Net")
    rewritten(saved, lambda metadata: metadata.update(spec=json.dumps(spec.signed), signature=spec.signature))
    assert refusal(saved).startswith("FILE: names my_net.Net; expected ") and "my_net" not in sys.modules
    assert find_spec(saved, ["my_net.Net"]) == spec


def renamed(spec, where: str, target: str):
    """The Spec with another name of its class or its gate."""
    changes = {
        "model": {"model": replace(spec.model, target=target)},
        "task": {"task": spec.task | {"target": target}},
        "gate": {"sparsity": spec.sparsity | {"gate": target}},
    }
    return replace(spec, **changes[where])


@pytest.mark.parametrize(
    "arguments, task, reads",
    [
        ({"units": -3}, {}, ["rgb"]),
        ({"nothing": 3}, {}, ["rgb"]),
        ({}, {"scale": 0}, ["rgb"]),
        ({}, {"scale": 3}, ["rgb"]),
        ({}, {"scale": "x"}, ["rgb"]),
        ({}, {}, ["luma"]),
    ],
)
def test_a_spec_that_makes_no_network_for_its_task(saved, arguments, task, reads):
    spec = read_spec(saved)
    model = replace(spec.model, arguments=spec.model.arguments | arguments, reads=reads)
    spec = replace(spec, model=model, task=spec.task | task)
    rewritten(saved, lambda metadata: metadata.update(spec=json.dumps(spec.signed), signature=spec.signature))
    assert refusal(saved).startswith("FILE: ")


@pytest.mark.parametrize("patch", ["0", "1", "19", "-4", "abc"])
def test_a_patch_that_is_too_small_to_cut_images_by_is_none(saved, patch):
    rewritten(saved, lambda metadata: metadata.update(patch=patch))
    assert open_network(saved, CPU)[0].tile is None


def test_a_plain_copy_leaves_the_network_alone(network_of):
    network, spec = network_of(f"sparsity=static {SMALL}")
    network.train()
    assert not portable_copy(network, replace(spec, inference="hard")).training
    assert network.training and network.body[0].conv1.inference == "soft"
