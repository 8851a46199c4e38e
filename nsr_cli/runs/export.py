"""Networks for other programs: .safetensors, torch.export's .pt2, ONNX; each read back and compared."""

import contextlib
import copy
import functools
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nsr_cli.errors import Failed, Reported, UserError, find_each
from nsr_cli.files import replacing
from nsr_cli.layers.sparse_conv import is_gated
from nsr_cli.models.tiled import tiling_of
from nsr_cli.runs.build import check_network, set_inference, trained_network
from nsr_cli.runs.portable import metadata_of, open_network, portable, says_its_network, to_bytes
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import Spec
from nsr_cli.tasks import task_of

TOLERANCE = 1e-4  # of the largest number that the network puts out; rounding makes about a hundredth of it
SIDE = 48  # of the images that are compared, for networks without tiles
BRANCHES = 8  # sparsity groups up to which ONNX Runtime is faster at k convolutions (Eq. 8) than at mixing (Eq. 9)
AXES = {0: "batch", 2: "height", 3: "width"}  # that are left open


@dataclass(frozen=True)
class Source:
    """What is exported: a portable network, its Spec, and what makes torch.export's program of it, once."""

    network: nn.Module
    spec: Spec
    program: Callable[[], ExportedProgram]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        encode: the content of a file.
        open: from a file to the function from images to restored ones that it holds.
        packages: beside torch, that both need.
        extra: which installs them.
    """

    encode: Callable[[Source], bytes]
    open: Callable[[Path], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()
    extra: str = ""


def source_of(run: Run, named: bool) -> tuple[nn.Module, Spec]:
    """The network that is exported, and its Spec.

    Args:
        run: with the weights of its training, or with a file of weights.
        named: whether the network was named, beside the file; if not, a file that says its network is believed.
    """
    path, device = Path(run.request.ckpt or ""), torch.device("cpu")
    if run.request.ckpt and not named and says_its_network(path):
        return open_network(path, device)
    network = trained_network(run, device)
    check_network(run.spec, network)
    return network, run.spec


def expected_input(network: nn.Module, spec: Spec) -> str:
    """What a network is given, and what it returns, in words."""
    task, reads, tiling = task_of(spec.task), spec.model.reads, tiling_of(network, spec.tile)
    channels, times = task.channels_given(reads), f"{task.scale} " * (task.scale > 1)
    kind = {"rgb": "RGB"}.get(task.form(reads), task.form(reads))
    lines = [
        f"  takes    image (batch, {channels}, height, width): {kind}, float32 in [0, 1]",
        f"  returns  restored (batch, {channels}, {times}height, {times}width)",
    ]
    if tiling.overlap:
        cut = f"`nsr eval` drops {tiling.margin} pixels along each cut and averages {tiling.overlap} between two tiles"
        lines.append(
            f"  tiles    {tiling.side}x{tiling.side}: its gates choose once for each image they are given; {cut}"
        )
    return "\n".join(lines)


def export(network: nn.Module, spec: Spec, paths: Sequence[Path], overwrite: bool) -> Iterator[tuple[Path, float]]:
    """Write a network to files whose endings, keys of FORMATS, say how.

    Args:
        network: with its weights, on the CPU.
        spec: which makes it.
        paths: of the files.
        overwrite: whether there may be such files.

    Yields:
        Each file, and the largest difference between what it and the network compute, on images in [0, 1].

    Raises:
        Failed: the network cannot be written in a format, or a file does not compute what it does.
    """
    plain, channels = portable(network, spec), task_of(spec.task).channels_given(spec.model.reads)
    source = Source(plain, spec, functools.cache(lambda: exported(plain, channels)))
    set_inference(network.eval(), spec.inference)
    for path in paths:
        form = FORMATS[path.suffix]
        with replacing(path) as temporary:
            with exporting(path):
                temporary.write_bytes(form.encode(source))
                difference, largest = compared(form.open(temporary), network, channels)
            if not difference <= TOLERANCE * max(1, largest):
                raise Failed(f"{path}: not written: what it restores differs by {difference:.2g} from the network's")
            check_target(path, overwrite)  # again: by now it may be there
        yield path, difference


@torch.no_grad()
def compared(opened: Callable[[Tensor], Tensor], network: nn.Module, channels: int) -> tuple[float, float]:
    """(largest difference, largest number) of what two networks make of images of two sizes, alone and in batches."""
    side, generator = getattr(network, "tile", None) or SIDE, torch.Generator().manual_seed(0)
    differences, numbers = [], []
    for batch, height, width in ((1, side, side), (3, side, side), (1, side - 3, side + 4), (2, side - 3, side + 4)):
        images = torch.rand(batch, channels, height, width, generator=generator)
        expected = network(images)
        differences.append((opened(images) - expected).abs().max())
        numbers.append(expected.abs().max())
    return torch.stack(differences).max().item(), torch.stack(numbers).max().item()


@contextlib.contextmanager
def exporting(path: Path) -> Iterator[None]:
    """Without what exporters say of themselves; what they cannot do is one line."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Reported, OSError, MemoryError):
        raise
    except Exception as error:  # of many kinds, for networks that they cannot follow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Failed(f"{path}: this network cannot be written as {path.suffix}: {reason}") from error
    finally:
        logging.disable(disabled)


def check_targets(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise UserError for all files that cannot be written, or whose format needs a package that is not there."""
    find_each(lambda path: check_target(Path(path), overwrite), map(str, paths))
    for path in paths:
        for package in FORMATS[path.suffix].packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                needed = f"the package {package}: pip install 'nsr[{FORMATS[path.suffix].extra}]'"
                raise UserError(f"to={path}: {path.suffix} files need {needed} ({error})") from None


def check_target(path: Path, overwrite: bool) -> None:
    """Raise UserError for a file of no known format, in no folder, or that is there."""
    if path.suffix not in FORMATS:
        raise UserError(f"to={path}: expected a file that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"to={path}: no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"to={path}: a folder; expected a file")
    if path.exists() and not overwrite:
        raise UserError(f"to={path}: is there already; overwrite=true replaces it")


# The formats


def exported(network: nn.Module, channels: int) -> ExportedProgram:
    """A program of torch.export, for any batch, height and width; of convolutions alone where there are few groups."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if is_gated(layer) and layer.sparsity_groups <= BRANCHES:
            layer.form = "exact"
    sizes = {axis: Dim(name, min=1) for axis, name in AXES.items()}
    image = torch.zeros(2, channels, SIDE, SIDE + 1)
    with torch.no_grad():
        program = torch.export.export(network, (image,), dynamic_shapes=(sizes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of code, with the folders of this machine
    return program


def to_pt2(source: Source) -> bytes:
    content = io.BytesIO()
    said = json.dumps(metadata_of(source.network, source.spec))
    torch.export.save(source.program(), content, extra_files={"nsr.json": said})
    return content.getvalue()


def open_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(path.read_bytes())).module()  # by its path, it must end in .pt2


def to_onnx(source: Source) -> bytes:
    import onnx

    names = {"input_names": ["image"], "output_names": ["restored"], "dynamic_shapes": (AXES,)}
    model = torch.onnx.export(source.program(), dynamo=True, verbose=False, **names).model_proto
    onnx.helper.set_model_props(model, metadata_of(source.network, source.spec))
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")  # of the exporter: several times the size of a small network
    return model.SerializeToString()


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["restored"], {"image": images.numpy()})[0])


FORMATS = {
    ".safetensors": Format(
        lambda source: to_bytes(source.network, source.spec),
        lambda path: open_network(path, torch.device("cpu"))[0],
        ("safetensors",),
        "safetensors",
    ),
    ".pt2": Format(to_pt2, open_pt2),
    ".onnx": Format(to_onnx, open_onnx, ("onnx", "onnxscript", "onnxruntime"), "onnx"),
}
