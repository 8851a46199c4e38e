"""Reading weights files: the format is recognised by content, never by name, and no code of the file is run."""

import hashlib
import math
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import scipy.io
import torch
from safetensors import safe_open
from torch import Tensor

from nsr_cli.errors import UserError
from nsr_cli.regular import open_regular

# Keys under which checkpoints keep a state dict: that of an average of weights is taken, else the first of CONTAINERS.
AVERAGE = re.compile(r"(\w+_)?ema(_\w+)?")
CONTAINERS = "model_state_dict params_ema params state_dict model generator netG net".split()
FORMATS = "a MATLAB .mat file (5 or 7.3), a PyTorch checkpoint or .safetensors"
MAX_NUMBERS = 2**28  # in one array: 1 GiB of float32
FOLDER_BIT = 0x10  # the MS-DOS folder attribute of a zip file's parts
DIGEST = "sha256"  # key in the metadata of .safetensors files of this package
MAX_HEADER = 10**8  # bytes of JSON in .safetensors, by its specification


@dataclass(frozen=True)
class Content:
    """The content of a weights file.

    Attributes:
        tensors: by name; for a MATLAB file, arrays, structs (dict) and cells (list).
        metadata: the numbers and texts beside the tensors, by name.
    """

    tensors: dict[str, Any]
    metadata: dict[str, int | float | str] = field(default_factory=dict)


def read_content(path: Path) -> Content:
    """Read a MATLAB, PyTorch or .safetensors file.

    Raises:
        UserError: the file is missing, not regular, damaged, or not weights; or it needs code to load.
    """
    start = _first_bytes(path)
    if start.startswith(b"MATLAB 5.0"):
        reader = read_matlab5
    elif start.startswith((b"MATLAB 7.3", b"\x89HDF\r\n\x1a\n")):
        reader = read_matlab73
    elif start.startswith(b"PK\x03\x04"):
        reader = read_pytorch_zip
    elif start.startswith(b"\x80"):
        reader = read_pytorch
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER:
        reader = read_safetensors
    else:
        raise UserError(f"{path}: not network weights; expected {FORMATS}, but it starts with {start!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
            return reader(path)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise _needs_code(path, found.group(1) if found else "pickle instructions beyond those of tensors") from None
    except UserError:
        raise
    except Exception as error:  # the libraries raise nearly anything on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not network weights, or damaged; expected {FORMATS} ({reason})") from None


def _first_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(24)
    except FileNotFoundError:
        raise UserError(f"no weights file {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _needs_code(path: Path, code: str) -> UserError:
    advice = "save the tensors alone: torch.save(model.state_dict(), path)"
    return UserError(f"{path}: refused, because to load it is to run code that it names ({code}); {advice}")


def read_pytorch_zip(path: Path) -> Content:
    check_zip(path)
    return read_pytorch(path)


def read_pytorch(path: Path) -> Content:
    content, metadata = torch.load(path, map_location="cpu", weights_only=True), {}
    for _ in range(2):  # a container in a container at most
        if isinstance(content, Mapping):
            key = container_of(content, path)
            if key is not None:
                metadata |= {name: value for name, value in content.items() if isinstance(value, int | float | str)}
                content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: not network weights: it holds a {type(content).__name__}, not named tensors")
    return Content(check_tensors(content, path), metadata)


def container_of(content: Mapping[Any, Any], path: Path) -> Any:
    """The key under which a checkpoint keeps its state dict; None for a state dict.

    It is the only one that names an average (EMA), as params_ema; else one of CONTAINERS; else the only one that holds
    named tensors alone.

    Raises:
        UserError: there are several of unknown names.
    """
    others = [key for key, value in content.items() if isinstance(value, Mapping) and is_state_dict(value)]
    averages = [key for key in others if AVERAGE.fullmatch(str(key))]
    if len(averages) == 1:
        return averages[0]
    known = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
    if known is not None:
        return known
    if len(others) > 1:
        names = ", ".join(map(str, others))
        raise UserError(
            f"{path}: holds {len(others)} networks ({names}); expected one, or one named {', '.join(CONTAINERS)}"
        )
    return others[0] if others else None


def is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Whether a mapping holds named tensors alone, and at least one."""
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def check_zip(path: Path) -> None:
    """Check the checksums of a PyTorch file's parts, which torch ignores.

    Raises:
        UserError: a checksum is wrong, the file holds a program, or it unpacks to more bytes than it has.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(re.match(r"[^/]+/code/", member.filename) for member in members):
            raise _needs_code(path, "a TorchScript program")
        if any(re.fullmatch(r"[^/]+/models/model\.json", member.filename) for member in members):
            raise UserError(f"{path}: a program of torch.export; expected {FORMATS}, which `nsr export` writes too")
        if (total := sum(member.file_size for member in members)) > os.path.getsize(path):
            raise UserError(f"{path}: not as torch.save writes it: it unpacks to {total:,} bytes, more than it has")
        if damaged := archive.testzip():
            raise UserError(f"{path}: damaged: wrong checksum of {damaged}")
        for member in members:
            if member.external_attr & FOLDER_BIT:  # torch would return uninitialised memory
                raise UserError(f"{path}: damaged: {member.filename} is marked as a folder")


def read_safetensors(path: Path) -> Content:
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no dict)
        metadata = dict(file.metadata() or {})
    if not tensors:
        raise UserError(f"{path}: not network weights: it holds no tensors")
    if DIGEST in metadata and "signature" in metadata and metadata.pop(DIGEST) != digest_of(tensors, metadata):
        raise UserError(f"{path}: damaged: its content is not as it was written")
    return Content(check_tensors(tensors, path), metadata)


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of named tensors and metadata, because .safetensors has no checksum."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_tensors(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The named tensors of a state dict; raises UserError for anything else in it."""
    for key, value in content.items():
        tensor = isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided
        if not (tensor and (value.is_floating_point() or value.dtype == torch.int64)):
            raise UserError(f"{path}: not network weights: {key!r} holds {type(value).__name__}, not a dense tensor")
    return dict(content)


def check_numbers(name: str, count: int) -> None:
    """Raise ValueError for an array that is larger than any weights, which a small file may claim to hold."""
    if count > MAX_NUMBERS:
        raise ValueError(f"{name} holds {count:,} numbers, more than any weights")


def read_matlab5(path: Path) -> Content:
    def plain(value: np.ndarray) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.names:
            return {name: plain(value.flat[0][name]) for name in value.dtype.names} if value.size else {}
        if value.dtype == object:
            return [plain(element) for element in value.ravel(order="F")]
        return str(value.flat[0]) if value.dtype.kind == "U" and value.size == 1 else value

    for name, shape, _ in scipy.io.whosmat(path):  # from headers, before anything is unpacked
        check_numbers(name, math.prod(shape))
    arrays = scipy.io.loadmat(path)
    return Content({name: plain(value) for name, value in arrays.items() if not name.startswith("__")})


def read_matlab73(path: Path) -> Content:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: MATLAB 7.3 files need the package h5py: pip install nsr[mat] ({error})") from None

    def plain(value: Any, depth: int = 0) -> Any:  # of an h5py Group or Dataset
        if depth > 8:
            raise ValueError("structs nested deeper than in any weights")
        if isinstance(value, h5py.Group):
            return {name: plain(member, depth + 1) for name, member in value.items()}
        check_numbers(value.name, value.size)
        if h5py.check_ref_dtype(value.dtype):
            return [plain(file[reference], depth + 1) for reference in value[()].ravel()]
        if value.attrs.get("MATLAB_class") == b"char":
            return "".join(map(chr, value[()].ravel()))
        return value[()].T  # HDF5 lists MATLAB's axes in reverse

    with h5py.File(path) as file:
        return Content({name: plain(value) for name, value in file.items() if not name.startswith("#")})
