"""Portable networks: .safetensors files with folded weights and the Spec of their network."""

import json
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from nsr_cli.errors import UserError, naming
from nsr_cli.files import replacing
from nsr_cli.layers.merge import copied, merged
from nsr_cli.models.weights import load_weights
from nsr_cli.models.weights.read import DIGEST, digest_of, read_content
from nsr_cli.names import imported, imported_if_own, is_own
from nsr_cli.regular import read_regular
from nsr_cli.runs.build import check_network, fresh_method, set_inference
from nsr_cli.runs.spec import Spec, spec_of
from nsr_cli.tasks import Task

SPEC_KEYS = {"spec", "signature"}  # metadata of a file that holds a Spec


def portable_copy(network: nn.Module, spec: Spec) -> nn.Module:
    """A copy for evaluation: weights folded, and plain convolutions where the kernel is the same for every input."""
    network = copied(network).eval()
    set_inference(network, spec.inference)
    return merged(network)


def save_portable(path: Path, network: nn.Module, spec: Spec) -> None:
    """Write the portable copy of a network and its Spec, whole or not at all.

    Args:
        path: the .safetensors file.
        network: the network with its weights. Its ``tile`` is saved beside the Spec.
        spec: the Spec of the network.
    """
    content = to_bytes(portable_copy(network, spec), spec)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_bytes(network: nn.Module, spec: Spec) -> bytes:
    """The content of the .safetensors file of a portable network."""
    state, metadata = network.state_dict(), {"format": "pt", **metadata_of(network, spec)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}  # no shared memory
    content = save(tensors, {**metadata, DIGEST: digest_of(tensors, metadata)})
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()  # safetensors writes it in random order
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def metadata_of(network: nn.Module, spec: Spec) -> dict[str, str]:
    """The metadata of a network's file: its Spec, signature, inference, and the side of its training patches."""
    metadata = {"spec": json.dumps(spec.content), "signature": spec.signature, "inference": spec.inference}
    tile = getattr(network, "tile", None)
    return {**metadata, "patch": str(tile)} if tile else metadata


def read_spec(path: Path) -> Spec:
    """The Spec in a file written by :func:`save_portable`.

    Raises:
        UserError: as :func:`find_spec`; or the file holds no Spec.
    """
    if spec := find_spec(path):
        return spec
    raise UserError(f"{path}: does not say which network it is of; expected a .safetensors file of `nsr export`")


def find_spec(path: Path, known: Collection[str] = ()) -> Spec | None:
    """The Spec in a file of weights; None if it holds none.

    Its targets must be subclasses of ``nn.Module`` and Task, so that a file cannot name other code to run.

    Raises:
        UserError: the file is missing, damaged, holds no weights, or was written by another version of nsr.
    """
    metadata = read_content(path).metadata
    if not metadata.keys() >= SPEC_KEYS:
        return None
    try:
        spec = spec_of(json.loads(metadata["spec"]))
        if spec.signature != metadata["signature"]:
            raise ValueError("its signature differs")
        check_names(path, spec, known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: its Spec is of another version of nsr, or damaged ({error})") from None
    return spec


def find_own_spec(path: Path, known: Collection[str]) -> Spec | None:
    """The Spec in a file of weights, or, for the weights of a run, the Spec in the run's folder; None without one.

    Raises:
        UserError: as :func:`find_spec`.
    """
    if spec := find_spec(path, known):
        return spec
    try:
        spec = spec_of(json.loads(read_regular(path.parent / "spec.json")))
        if spec.signature != read_content(path).metadata.get("signature"):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # none, or of another version
        return None
    check_names(path, spec, known)
    return spec


def check_names(path: Path, spec: Spec, known: Collection[str]) -> None:
    """Raise UserError unless the names in a file's Spec are a network, a task, and a gate, of nsr or of the user.

    No module is imported for a name that is none of these, and not in ``known``: dotted names that the user gave.
    """
    for target, kind in {spec.model.target: nn.Module, spec.task["target"]: Task}.items():
        found = imported(target) if target in known else imported_if_own(target)
        if not (isinstance(found, type) and issubclass(found, kind)):
            what = f"expected a subclass of {kind.__module__}.{kind.__name__}, of nsr or in a module of your own"
            raise UserError(f"{path}: names {target}; {what}")
    gate = spec.sparsity["gate"]
    if "." in gate and gate not in known and not (is_own(gate.rpartition(".")[0]) and callable(imported_if_own(gate))):
        raise UserError(f"{path}: names the gate {gate}; expected one of nsr, or a function in a module of your own")


def open_network(path: Path, device: torch.device) -> tuple[nn.Module, Spec]:
    """The network in a file written by :func:`save_portable`, on a device, for evaluation; and its Spec.

    Raises:
        UserError: as :func:`read_spec`; the Spec makes no network for its task; or the weights do not fit the network.
    """
    spec = read_spec(path)
    try:
        with naming(path):
            network = portable_copy(fresh_method(spec), spec)
            network.tile = load_weights(network, path).tile
            check_network(spec, network)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # sizes that nobody trains
        if "memory" in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: its Spec makes no network that restores images ({reason})") from None
    return network.to(device), spec
