"""Export networks as .safetensors, torch.export's .pt2 or ONNX; each file is read back and compared."""

import contextlib
import functools
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nsr_cli.errors import Failed, Reported, UserError, find_each
from nsr_cli.files import check_file, replacing
from nsr_cli.layers.merge import copied
from nsr_cli.layers.sparse_conv import is_gated
from nsr_cli.models.padding import at_least, multiple_of
from nsr_cli.models.tiled import tiling_of
from nsr_cli.runs.build import check_network, set_inference, trained_network
from nsr_cli.runs.portable import find_spec, metadata_of, open_network, portable_copy, to_bytes
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import Spec
from nsr_cli.tasks import task_of

TOLERANCE = 1e-4  # share of the largest output that may differ; rounding makes about a hundredth of it
SIDE = 48  # pixels of the compared images, for networks without tiles
BRANCHES = 8  # sparsity groups up to which ONNX Runtime is faster at k convolutions (Eq. 8) than at mixing (Eq. 9)
AXES = {0: "batch", 2: "height", 3: "width"}  # dynamic axes


@dataclass(frozen=True)
class PortableNetwork:
    """A portable network to be exported, its Spec, and a cached function that makes its torch.export program."""

    network: nn.Module
    spec: Spec
    program: Callable[[], ExportedProgram]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        encode: makes the content of a file.
        open: reads a file; returns a function from images to restored images, (B, C, H, W).
        packages: needed beside torch.
        extra: the extra of nsr that installs them.
    """

    encode: Callable[[PortableNetwork], bytes]
    open: Callable[[Path], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()
    extra: str = ""


def network_of(run: Run) -> tuple[nn.Module, Spec]:
    """The network to be exported, and its Spec: that in the file of weights, if it holds one.

    Args:
        run: a run with a finished training or a file of weights.
    """
    path, device = Path(run.request.ckpt or ""), torch.device("cpu")
    if run.request.ckpt and find_spec(path):
        network, spec = open_network(path, device)
        return network, replace(spec, inference=run.spec.inference, tile=run.spec.tile)
    network = trained_network(run, device)
    check_network(run.spec, network)
    return network, run.spec


def expected_input(network: nn.Module, spec: Spec) -> str:
    """The inputs and outputs of a network, in words."""
    task, reads, tiling = task_of(spec.task), spec.model.reads, tiling_of(network, spec.tile)
    channels, times = task.channels_given(reads), f"{task.scale} " * (task.scale > 1)
    multiple = multiple_of(network)
    sides = f", height and width multiples of {multiple}" * (multiple > 1)
    kind = {"rgb": "RGB"}.get(task.form(reads), task.form(reads))
    lines = [
        f"  takes    image (batch, {channels}, height, width): {kind}, float32 in [0, 1]{sides}",
        f"  returns  restored (batch, {channels}, {times}height, {times}width)",
    ]
    if tiling.overlap:
        cut = f"`nsr eval` drops {tiling.margin} pixels along each cut and averages {tiling.overlap} between two tiles"
        lines.append(
            f"  tiles    {tiling.side}x{tiling.side}: its gates choose once for each image they are given; {cut}"
        )
    return "\n".join(lines)


def export(network: nn.Module, spec: Spec, paths: Sequence[Path], overwrite: bool) -> Iterator[tuple[Path, float]]:
    """Write a network to files; their suffixes, keys of FORMATS, choose the formats.

    Args:
        network: the network with its weights, on the CPU.
        spec: its Spec.
        paths: of the files.
        overwrite: whether existing files are replaced.

    Yields:
        Each file, and the largest difference between its output and the network's, on images in [0, 1].

    Raises:
        Failed: the network cannot be written in a format, or the file's output differs by more than TOLERANCE.
    """
    plain, channels = portable_copy(network, spec), task_of(spec.task).channels_given(spec.model.reads)
    source = PortableNetwork(plain, spec, functools.cache(lambda: export_program(plain, channels)))
    set_inference(network.eval(), spec.inference)
    for path in paths:
        form = FORMATS[path.suffix]
        with replacing(path) as temporary:
            with quiet_export(path):
                temporary.write_bytes(form.encode(source))
                difference, largest = compare_outputs(form.open(temporary), network, channels)
            if not difference <= TOLERANCE * max(1, largest):
                raise Failed(f"{path}: not written: its output differs by {difference:.2g} from the network's")
            check_target(path, overwrite)  # again: another process may have made it
        yield path, difference


@torch.no_grad()
def compare_outputs(opened: Callable[[Tensor], Tensor], network: nn.Module, channels: int) -> tuple[float, float]:
    """(largest difference, largest value) of two networks' outputs, for batches of square images and of odd ones."""
    side, generator = getattr(network, "tile", None) or at_least(SIDE, network), torch.Generator().manual_seed(0)
    differences, numbers = [], []
    odd = at_least(side - 3, network), at_least(side + 4, network)
    sizes = [(1, side, side), (3, side, side), (1, *odd), (2, *odd)]
    for batch, height, width in sizes:
        images = torch.rand(batch, channels, height, width, generator=generator)
        expected = network(images)
        differences.append((opened(images) - expected).abs().max())
        numbers.append(expected.abs().max())
    return torch.stack(differences).max().item(), torch.stack(numbers).max().item()


@contextlib.contextmanager
def quiet_export(path: Path) -> Iterator[None]:
    """Silence exporters; raise Failed with one line for a network that they cannot write."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Reported, OSError, MemoryError):
        raise
    except Exception as error:  # exporters raise many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Failed(f"{path}: this network cannot be written as {path.suffix}: {reason}") from error
    finally:
        logging.disable(disabled)


def check_targets(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise UserError for all files that cannot be written, or whose format needs a missing package."""
    find_each(lambda path: check_target(Path(path), overwrite), map(str, paths))
    for path in paths:
        for package in FORMATS[path.suffix].packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                needed = f"the package {package}: pip install 'nsr[{FORMATS[path.suffix].extra}]'"
                raise UserError(f"to={path}: {path.suffix} files need {needed} ({error})") from None


def check_target(path: Path, overwrite: bool) -> None:
    """Raise UserError for a file of unknown format, in a missing folder, or that exists and may not be replaced."""
    if path.suffix not in FORMATS:
        raise UserError(f"to={path}: expected a file that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"to={path}: no folder {path.parent}")
    check_file("to", path)
    if path.exists() and not overwrite:
        raise UserError(f"to={path}: is there already; overwrite=true replaces it")


# The formats


def export_program(network: nn.Module, channels: int) -> ExportedProgram:
    """The torch.export program of a network, for any batch, height and width.

    Layers of up to BRANCHES groups take the exact form, which has no convolution with kernels computed from the input.
    """
    network = copied(network)
    for layer in network.modules():
        if is_gated(layer) and layer.sparsity_groups <= BRANCHES:
            layer.form = "exact"
    batch, *sides = (Dim(name, min=1) for name in AXES.values())
    multiple = multiple_of(network)
    sizes = dict(zip(AXES, (batch, *(multiple * side for side in sides)), strict=True))
    image = torch.zeros(2, channels, at_least(SIDE, network), at_least(SIDE + 1, network))
    with torch.no_grad():
        program = torch.export.export(network, (image,), dynamic_shapes=(sizes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of this machine
    return program


def to_pt2(source: PortableNetwork) -> bytes:
    content = io.BytesIO()
    metadata = json.dumps(metadata_of(source.network, source.spec))
    torch.export.save(source.program(), content, extra_files={"nsr.json": metadata})
    return content.getvalue()


def open_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(path.read_bytes())).module()  # a path would have to end in .pt2


def to_onnx(source: PortableNetwork) -> bytes:
    import onnx

    names = {"input_names": ["image"], "output_names": ["restored"], "dynamic_shapes": (AXES,)}
    model = torch.onnx.export(source.program(), dynamo=True, verbose=False, **names).model_proto
    onnx.helper.set_model_props(model, metadata_of(source.network, source.spec))
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")  # the exporter's notes: several times the size of a small network
    return model.SerializeToString()


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["restored"], {"image": images.numpy()})[0])


FORMATS = {
    ".safetensors": Format(
        lambda source: to_bytes(source.network, source.spec),
        lambda path: open_network(path, torch.device("cpu"))[0],
    ),
    ".pt2": Format(to_pt2, open_pt2),
    ".onnx": Format(to_onnx, open_onnx, ("onnx", "onnxscript", "onnxruntime"), "onnx"),
}
