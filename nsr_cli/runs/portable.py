"""Networks as files of their own: .safetensors with plain, folded weights, which say what network they are of."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from nsr_cli.errors import UserError
from nsr_cli.files import replacing
from nsr_cli.layers.merge import merged
from nsr_cli.models.weights import load_weights
from nsr_cli.models.weights.read import DIGEST, digest_of, read
from nsr_cli.names import imported
from nsr_cli.runs.build import check_network, fresh_method, set_inference
from nsr_cli.runs.spec import Spec, spec_of
from nsr_cli.tasks import Task

SAID = {"spec", "signature"}  # metadata without which a file does not say its network


def portable(network: nn.Module, spec: Spec) -> nn.Module:
    """A copy for evaluation: plain convolutions where the kernel is the same for every input, weights folded."""
    network = copy.deepcopy(network).eval()
    set_inference(network, spec.inference)
    return merged(network)


def save_portable(path: Path, network: nn.Module, spec: Spec) -> None:
    """Write a network as :func:`portable` makes it, whole or not at all, with its Spec.

    Args:
        path: of the .safetensors file.
        network: with its weights; its ``tile`` is kept beside the Spec.
        spec: which makes the network.
    """
    content = to_bytes(portable(network, spec), spec)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_bytes(network: nn.Module, spec: Spec) -> bytes:
    """The content of the .safetensors file of a portable network."""
    state, metadata = network.state_dict(), {"format": "pt", **metadata_of(network, spec)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}  # none share memory
    content = save(tensors, {**metadata, DIGEST: digest_of(tensors, metadata)})
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()  # as saved, its order is by chance
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def metadata_of(network: nn.Module, spec: Spec) -> dict[str, str]:
    """What files say of their network: its Spec, its signature, and the side of the patches that it was trained on."""
    said = {"spec": json.dumps(spec.signed), "signature": spec.signature, "inference": spec.inference}
    tile = getattr(network, "tile", None)
    return {**said, "patch": str(tile)} if tile else said


def says_its_network(path: Path) -> bool:
    """Whether a file of weights is one of :func:`save_portable`. Raises UserError as :func:`read_spec`."""
    return read(path).metadata.keys() >= SAID


def read_spec(path: Path) -> Spec:
    """The Spec that a file of :func:`save_portable` holds.

    Its network and its task must be classes of networks and of tasks: a file can name no other code to run.

    Raises:
        UserError: no such file, damaged, without a Spec, or of another version of nsr.
    """
    metadata = read(path).metadata
    if not metadata.keys() >= SAID:
        raise UserError(f"{path}: does not say which network it is of; expected a .safetensors file of `nsr export`")
    try:
        spec = spec_of(json.loads(metadata["spec"]))
        if spec.signature != metadata["signature"]:
            raise ValueError("its signature differs")
        kinds = {spec.model.target: nn.Module, spec.task["target"]: Task}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: its Spec is of another version of nsr, or damaged ({error})") from None
    for target, kind in kinds.items():
        found = imported(target)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise UserError(f"{path}: names {target}; expected a subclass of {kind.__module__}.{kind.__name__}")
    return spec


def open_network(path: Path, device: torch.device) -> tuple[nn.Module, Spec]:
    """The network of a file of :func:`save_portable`, on a device, for evaluation; and its Spec.

    Raises:
        UserError: as of :func:`read_spec`; or a Spec that makes no network for its task, or weights of another one.
    """
    spec = read_spec(path)
    try:
        network = portable(fresh_method(spec), spec)
        network.tile = load_weights(network, path).tile
        check_network(spec, network)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # sizes that nobody trains
        if "memory" in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: its Spec makes no network that restores images ({reason})") from None
    return network.to(device), spec
