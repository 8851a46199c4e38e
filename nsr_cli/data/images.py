"""Reading and writing 8-bit images, grey (H, W) or RGB (H, W, 3); anything else is refused."""

import contextlib
import difflib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from nsr_cli.data.catalog import broken_link_text
from nsr_cli.errors import UserError
from nsr_cli.files import replacing
from nsr_cli.regular import open_regular

PNG = b"\x89PNG\r\n\x1a\n"
_READERS = {  # by the first bytes of a file; Image.open would also try formats that start programs
    PNG: PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
}
_KINDS = "PNG, JPEG, BMP, TIFF or WebP"
_TIFF_BITS_PER_SAMPLE = 258
_GREY = ("1", "L", "LA", "La")  # Pillow's modes

MAX_PIXELS = 2**28  # of one image: RGB takes 0.8 GB, and a few times that while it is scored
MEGAPIXELS = "NSR_MAX_MEGAPIXELS"  # environment variable: another limit, in millions of pixels


def read_image(path: str | Path) -> np.ndarray:
    """Read a PNG, JPEG, BMP, TIFF or WebP file exactly as stored.

    Palettes become RGB, and a wholly opaque alpha channel is dropped. The orientation of a TIFF file is applied, as it
    says where its first row is; that in the EXIF data of other files is ignored, as published scores do.

    Returns:
        uint8, (H, W) of a grey file and (H, W, 3) RGB of a colour file.

    Raises:
        UserError: the file is missing, damaged or no such image; or it has more than 8 bits per channel, several
            frames, transparent pixels, a colour space other than grey and RGB, or more pixels than the limit
            (`MAX_PIXELS`, or what NSR_MAX_MEGAPIXELS says). The text names the file.
    """
    path = Path(path)
    with open_image(path) as (image, data):
        if (depth := depth_of(image, data)) > 8:  # Pillow would cut 16-bit RGB down to 8 bits without a word
            raise UserError(f"{path} has {depth} bits per channel; expected 8")
        image.load()
        return np.array(_grey_or_rgb(path, image))


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[tuple[ImageFile.ImageFile, bytes]]:
    """An open image file and its bytes, checked as far as possible before its pixels are decoded.

    Raises:
        UserError: the file is missing, damaged or no such image, or has more pixels than the limit or several frames.
            Errors inside of the context, as of decoding, become UserErrors too.
    """
    with _reporting(path):
        with open_regular(path) as file:
            _check_pixels(path, *_size(path, file))
            file.seek(0)
            data = file.read()
        with _open_reader(path, io.BytesIO(data)) as image:
            if image.format == "PNG":
                _check_png(path, data)
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise UserError(f"{path} has {frames} frames; expected one")
            yield image, data


def image_size(path: str | Path) -> tuple[int, int]:
    """The (height, width) of an image file in pixels, from its header alone.

    Raises:
        UserError: the file is missing or no such image, or has more pixels than the limit.
    """
    path = Path(path)
    with _reporting(path):
        with open_regular(path) as file:
            height, width = _size(path, file)
        _check_pixels(path, height, width)
        return height, width


def is_grey(path: str | Path) -> bool:
    """Whether an image file is stored as grey, from its header alone. Raises UserError: missing, or no such image."""
    path = Path(path)
    with _reporting(path), open_regular(path) as file:
        if file.read(4) == b"RIFF":  # WebP, which has no grey
            return False
        file.seek(0)
        with _open_reader(path, file) as image:
            return image.mode in _GREY


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write a PNG file atomically: `path` is, at any time, what it was before or the whole new file.

    Args:
        path: its folder is made when it is missing.
        image: uint8, (H, W) grey or (H, W, 3) RGB.

    Raises:
        UserError: not such an image.
        OSError: the file cannot be written.
    """
    path, image = Path(path), np.asarray(image)
    if image.dtype != np.uint8 or image.size == 0 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        found = f"{image.dtype} of shape {image.shape}"
        raise UserError(f"cannot write {path}: {found}; expected uint8 of shape (H, W) or (H, W, 3)")
    with replacing(path) as temporary:
        PillowImage.fromarray(np.ascontiguousarray(image)).save(temporary, "PNG")


def _open_reader(path: Path, file: BinaryIO) -> ImageFile.ImageFile:
    start = file.read(12)
    file.seek(0)
    for signature, reader in _READERS.items():
        if start.startswith(signature) and (signature != b"RIFF" or start.endswith(b"WEBP")):
            return reader(file)
    problem = f"not a {_KINDS} image" if start else "the file is empty"
    raise UserError(f"cannot read {path}: {problem}")


def _size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """(height, width) from a file's header, without decoding pixels."""
    start = file.read(30)
    file.seek(0)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":  # Pillow would allocate all pixels
        return _webp_size(start)
    with _open_reader(path, file) as image:
        return image.height, image.width


def _webp_size(start: bytes) -> tuple[int, int]:
    """(height, width) from the first 30 bytes of a WebP file (RFC 9649, Sections 2.5 to 2.7)."""
    kind, content = start[12:16], start[20:]
    if kind == b"VP8X" and len(content) == 10:
        width, height = (1 + int.from_bytes(content[at : at + 3], "little") for at in (4, 7))
    elif kind == b"VP8L" and content[:1] == b"\x2f":
        bits = int.from_bytes(content[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    else:
        raise ValueError("the WebP header is incomplete")
    return height, width


def _check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse an image of more pixels than the limit, before any of them is decoded."""
    limit, raised = MAX_PIXELS, os.environ.get(MEGAPIXELS, "")
    if raised:
        try:
            limit = float(raised) * 1e6
        except ValueError:
            limit = 0
        if not limit > 0:
            raise UserError(f"{MEGAPIXELS}={raised}: expected a number above 0, the limit in millions of pixels")
    if height * width > limit:
        size, limit = f"{width}x{height}, {height * width / 1e6:,.6g} megapixels", f"{limit / 1e6:,.6g}"
        raise UserError(f"{path} is {size}; expected at most {limit} ({MEGAPIXELS}=... raises the limit)")


def _check_png(path: Path, data: bytes) -> None:
    """Check every chunk's length and checksum: Pillow does not look at those of the pixels."""
    view, start, kind = memoryview(data), len(PNG), b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4])  # length, kind, content, checksum
        if len(data) < max(end, start + 12):
            raise UserError(f"cannot read {path}: the file is truncated at {len(data)} bytes")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise UserError(f"cannot read {path}: damaged at byte {start} (checksum of {kind!r})")
        start = end


def depth_of(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per channel of an open image; ``data`` are the bytes of its file."""
    if image.format == "PNG":
        return data[24]  # in the IHDR chunk, which comes first
    return max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,))) if image.format == "TIFF" else 8


def _grey_or_rgb(path: Path, image: PillowImage.Image) -> PillowImage.Image:
    grey = image.mode in _GREY
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        lowest = image.getextrema()[-1][0]
        if lowest < 255:
            raise UserError(f"{path} has transparent pixels (alpha down to {lowest}); expected opaque ones")
    elif image.mode not in ("1", "L", "P", "RGB"):
        raise UserError(f"{path} is stored as {image.mode}; expected grey or RGB")
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn any error of reading a file into a UserError: Pillow's readers raise nearly anything for a damaged one."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot read {path}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """The error in one line; for a missing path, with the content of its nearest existing parent."""
    if not isinstance(error, FileNotFoundError) or path.exists():
        return _error_line(error)
    missing = path.absolute()
    parent = missing.parent
    while not parent.exists() and parent != parent.parent:
        missing, parent = parent, parent.parent
    if missing.is_symlink():
        return broken_link_text(missing)
    try:
        names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    except OSError:
        names = []
    names = difflib.get_close_matches(missing.name, names, n=5) or names
    more = ", ..." if len(names) > 8 else ""
    held = f"; there are: {', '.join(names[:8])}{more}" if names else ""
    return f"{parent} has no '{missing.name}'{held}"


def _error_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or " ".join(str(error).split())
    return f"damaged, or of an unsupported kind ({' '.join(str(error).split()) or type(error).__name__})"
