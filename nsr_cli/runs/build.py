"""Build the method of a Spec: a network, initialised from its seed or read from a file, or a classical function."""

import functools
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nsr_cli.engine import checkpoint
from nsr_cli.engine.processes import local_rank, world_size
from nsr_cli.errors import UserError, describe
from nsr_cli.folders import PACKAGE
from nsr_cli.layers.merge import copied
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import sparsify
from nsr_cli.models.evaluating import evaluating
from nsr_cli.models.padding import at_least, multiple_of, padded
from nsr_cli.models.tiled import device_of
from nsr_cli.models.weights import load_fitting_layers, load_weights
from nsr_cli.names import imported, is_of_nsr
from nsr_cli.regular import file_sha256
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import Spec
from nsr_cli.tasks import task_of

PROBE = 32  # side of the images that a network is tried on, if no patch is known
MULTIPLE = "; where sides must be multiples of a number, the class says so: see `multiple` in nsr_cli.models"


def build(run: Run, device: torch.device) -> Callable:
    """The method of a run on a device, with the weights of ``ckpt``; weights trained here are not loaded.

    Raises:
        UserError: the class cannot be imported, a knob is out of its range, or the file does not fit the network.
    """
    spec = run.spec
    torch.manual_seed(spec.training.seed if spec.training else 0)
    method = fresh_method(spec)
    if not isinstance(method, nn.Module):
        return method
    if run.request.ckpt:
        load_run_weights(run, method)
    return method.to(device)


def trained_network(run: Run, device: torch.device) -> nn.Module:
    """The network of a run for evaluation, with the weights of its training or of its file."""
    network = build(run, device)
    if run.trains:
        checkpoint.load_finished(run.weights, run.spec.weights_spec.signature, network)
    set_inference(network, run.spec.inference)
    return network.eval()


def fresh_method(spec: Spec) -> Callable:
    """The method of a Spec, a network with fresh weights.

    Raises:
        UserError: the class takes other arguments, or makes no network although the Spec has weights.
    """
    target, arguments = imported(spec.model.target), dict(spec.model.arguments)
    is_network = bool(spec.training or spec.weights)
    if spec.model.sparse:
        arguments |= layer_knobs(spec.sparsity)
    is_called = is_network or isinstance(target, type)
    check_network_arguments(target, arguments, is_called)
    if not is_called:
        return functools.partial(target, **arguments)
    try:
        method = _called(target, arguments)
        if spec.sparsity["gate"] != "none" and not spec.model.sparse:
            attach_sparsity(method, spec)
    except ValueError as error:  # a layer refuses its settings
        raise UserError(str(error)) from None
    if is_network and not isinstance(method, nn.Module):
        raise UserError(f"_target_={spec.model.target}: makes a {type(method).__name__}; expected a torch.nn.Module")
    if spec.training and not any(parameter.requires_grad for parameter in method.parameters()):
        raise UserError(f"_target_={spec.model.target}: has nothing to train; expected trained: false in its YAML")
    if isinstance(getattr(method, "tile", None), nn.Module | Tensor):
        raise UserError(f"_target_={spec.model.target}: has a part named tile, where nsr keeps the side of its tiles")
    if spec.training:
        method.tile = spec.training.patch
    return method


def _called(target: Callable, arguments: dict) -> object:
    """What a class makes of its arguments. Raises UserError where a layer of torch or nsr fails on them."""
    try:
        return target(**arguments)
    except Exception as error:
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        of_a_layer = any(place.is_relative_to(folder) for folder in (PACKAGE, Path(torch.__file__).parent))
        if isinstance(error, ValueError) or describe(error)[2] or not of_a_layer:  # own code needs its traceback
            raise
        given = ", ".join(f"{name}={value}" for name, value in arguments.items())
        where = f"model.network: {target.__module__}.{target.__qualname__}({given})"
        raise UserError(f"{where}: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    """An error of the user's own code: its kind, the first line of its text, and where it arose."""
    last, what = traceback.extract_tb(error.__traceback__)[-1], f"{type(error).__name__}: {error}".splitlines()[0]
    return f"{what} ({Path(last.filename).name}, line {last.lineno})"


def check_network_arguments(target: Callable, arguments: dict, is_called: bool) -> None:
    """Raise UserError for an argument in model.network that a class or function does not take, or one that it lacks.

    Args:
        target: the class or function.
        arguments: of it, by name.
        is_called: whether they are all of its arguments; else images come before them.
    """
    try:
        known = list(inspect.signature(target).parameters.values())
    except ValueError:  # written in C
        return
    where, names = f"{target.__module__}.{target.__qualname__}", [parameter.name for parameter in known]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known)
    if not takes_any and (unknown := [name for name in arguments if name not in names]):
        raise UserError(f"model.network.{unknown[0]}: {where} takes no such argument; it takes: {', '.join(names)}")
    needed = [p.name for p in known if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if missing := [name for name in needed[0 if is_called else 1 :] if name not in arguments]:
        raise UserError(f"model.network: {where} needs {', '.join(missing)}")


def layer_knobs(sparsity: dict) -> dict:
    """The arguments of :class:`SparseConv2d` from the knobs of a config."""
    knobs = {"sparsity_groups" if name == "groups" else name: value for name, value in sparsity.items()}
    return {name: value for name, value in knobs.items() if value is not None}


def attach_sparsity(network: nn.Module, spec: Spec) -> None:
    """Replace the convolutions of a network that have as many input as output channels by sparse ones.

    Raises:
        UserError: there is no such convolution, or a knob does not fit it.
    """
    gate, cardinality = spec.sparsity["gate"], spec.sparsity.get("cardinality") or 1

    def is_deep(name: str, conv: nn.Conv2d) -> bool:
        return conv.in_channels == conv.out_channels

    widths = [m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and is_deep(n, m)]
    if not widths:
        raise UserError(f"sparsity={gate}: model={spec.model.name} has no convolution of equal widths to make sparse")
    if cardinality > max(widths):
        raise UserError(f"cardinality={cardinality}: expected 1 to {max(widths)}, the layer's output channels")
    knobs = layer_knobs(spec.sparsity) | {"cardinality": cardinality}
    if knobs.pop("shared_gate", False):
        raise UserError(f"shared_gate=true: sparse convolutions attached to model={spec.model.name} share no gates")
    sparsify(network, where=is_deep, **knobs)


def load_run_weights(run: Run, network: nn.Module) -> None:
    """Load the weights of a run's file, and the side of their training patches, into its network."""
    path = Path(run.request.ckpt)
    if run.request.published:
        if not path.is_file():
            how = "`nsr data get weights` fetches it, or says where to ask; NSR_DATA names the data folder"
            raise UserError(f"ckpt=published: no file {path} (SHA-256 {run.spec.weights[:8]}...); {how}")
        if file_sha256(path) != run.spec.weights:
            raise UserError(f"ckpt=published: {path} is another file than the published one; name it as ckpt=FILE")
    loaded, inference = load_weights(network, path), run.spec.inference
    if run.spec.sparsity["gate"] == "static" and (merged := loaded.metadata.get("inference", inference)) != inference:
        raise UserError(f"inference={inference}: {path} holds kernels that were merged for inference={merged}")
    network.tile = loaded.tile


def initialise(run: Run, network: nn.Module) -> str:
    """Load the fitting layers of the checkpoint that a training starts from.

    Returns:
        One line: the checkpoint, and its layers that were not loaded.

    Raises:
        UserError: the checkpoint has changed since the run was signed, or at most half of its tensors fit.
    """
    path = run.request.init
    if file_sha256(path) != run.spec.training.init:
        raise UserError(f"init={path}: the file has changed since this run was asked for")
    skipped = load_fitting_layers(network, path)
    return f"starting from {path}" + (
        f"; not loaded, because their sizes differ: {', '.join(skipped)}" if skipped else ""
    )


def set_inference(method: Callable, inference: str) -> None:
    """Set ``soft`` or ``hard`` inference in all sparse layers of a method."""
    for layer in method.modules() if isinstance(method, nn.Module) else ():
        if isinstance(layer, SparseConv2d):
            layer.inference = inference


def check_network(spec: Spec, network: nn.Module) -> None:
    """Raise UserError unless a network restores a patch.

    A network of the user's own must restore an image of odd sides, and be ready to be trained, too.
    """
    multiple = multiple_of(network)
    if not isinstance(multiple, int) or multiple < 1:
        raise UserError(f"model={spec.model.name}: multiple={multiple!r}; expected an integer, at least 1")
    side = getattr(network, "tile", None) or at_least(PROBE, network)
    images = functools.partial(torch.zeros, device=device_of(network))
    channels = task_of(spec.task).channels_given(spec.model.reads)
    with torch.no_grad(), evaluating(network):
        check_output(spec, network, images(1, channels, side, side))
        if not is_of_nsr(spec.model.target):  # nsr's networks do; a large one takes seconds for a pass
            odd = images(1, channels, side + 1, side + 3)
            check_output(spec, functools.partial(padded, network), odd, advice=MULTIPLE)
            if spec.training:  # a copy, because some layers learn in a forward pass
                batch = images(min(2, spec.training.batch), channels, side, side)
                check_output(spec, copied(network).train(), batch, " in training")


def check_output(spec: Spec, network: Callable, images: Tensor, when: str = "", advice: str = "") -> None:
    """Raise UserError, which ends with ``advice``, unless a network's output has the shape that its task expects."""
    task, (batch, channels, height, width) = task_of(spec.task), images.shape
    given = f"{tuple(images.shape)}{when}"
    try:
        restored = network(images)
    except Exception as error:  # of the user's own code
        if "memory" in str(error):
            raise
        raise UserError(f"model={spec.model.name}: fails on {given}: {_in_one_line(error)}{advice}") from error
    found = tuple(restored.shape) if isinstance(restored, Tensor) else f"a {type(restored).__name__}"
    expected = batch, channels, height * task.scale, width * task.scale
    if found != expected:
        what = f"turns {given} into {found}; expected {expected} for task={task.name}"
        raise UserError(f"model={spec.model.name}: {spec.model.target} {what}{advice}")


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes a GPU if there is one.

    Raises:
        UserError: there is no such device; the text lists the devices.
    """
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if "mps" in found else "cpu"
    if world_size() > 1 and name.startswith("cuda:"):
        raise UserError(f"device={name}: {world_size()} processes take a GPU each; expected auto, cuda or cpu")
    name = f"cuda:{local_rank()}" if name == "cuda" else name
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, on a GPU too
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # which meta refuses
        return device
    except (RuntimeError, AssertionError):
        raise UserError(f"device={name}: not on this machine; there are: auto, {', '.join(found)}") from None
