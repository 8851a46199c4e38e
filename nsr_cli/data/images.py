"""Reading and writing 8-bit images, grey (H, W) or RGB (H, W, 3); anything else is refused."""

import difflib
import io
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL import Image as PillowImage

from nsr_cli.errors import UserError
from nsr_cli.files import replacing

_PNG = b"\x89PNG\r\n\x1a\n"
_READERS = {  # how a file begins, and who reads it; Image.open would also try formats that start programs
    _PNG: PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
}
_TIFF_BITS_PER_SAMPLE = 258


def read_image(path: str | Path) -> np.ndarray:
    """Read a PNG, JPEG, BMP or TIFF file exactly as stored.

    Palettes become RGB, a wholly opaque alpha channel is dropped, and the EXIF orientation is ignored.

    Returns:
        uint8, (H, W) of a grey file and (H, W, 3) RGB of a colour file.

    Raises:
        UserError: the file is missing, damaged or no such image; or it has more than 8 bits per channel,
            transparent pixels, or a colour space other than grey and RGB. The text names the file.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        with _open(path, io.BytesIO(data)) as image:
            if image.format == "PNG":
                _check_png(path, data)
            _check_depth(path, image, data)
            image.load()
            return np.array(_grey_or_rgb(path, image))
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything when a file is damaged
        raise _unreadable(path, error) from error


def image_size(path: str | Path) -> tuple[int, int]:
    """The (height, width) of an image file in pixels, from its header alone.

    Raises:
        UserError: the file is missing or is no PNG, JPEG, BMP or TIFF image.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, _open(path, file) as image:
            return image.height, image.width
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


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


def _open(path: Path, file: io.BufferedIOBase) -> ImageFile.ImageFile:
    start = file.read(8)
    file.seek(0)
    for signature, reader in _READERS.items():
        if start.startswith(signature):
            return reader(file)
    problem = "not a PNG, JPEG, BMP or TIFF image" if start else "the file is empty"
    raise UserError(f"cannot read {path}: {problem}")


def _check_png(path: Path, data: bytes) -> None:
    """Check every chunk's length and checksum: Pillow does not look at those of the pixels."""
    view, start, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4])  # length, kind, content, checksum
        if len(data) < max(end, start + 12):
            raise UserError(f"cannot read {path}: the file is truncated at {len(data)} bytes")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise UserError(f"cannot read {path}: damaged at byte {start} (checksum of {kind!r})")
        start = end


def _check_depth(path: Path, image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse more than 8 bits per channel: Pillow would cut 16-bit RGB down to 8 bits without a word."""
    if image.format == "PNG":
        depth = data[24]  # in the IHDR chunk, which comes first
    elif image.format == "TIFF":
        depth = max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,)))
    else:
        depth = 8
    if depth > 8:
        raise UserError(f"{path} has {depth} bits per channel; expected 8")


def _grey_or_rgb(path: Path, image: PillowImage.Image) -> PillowImage.Image:
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        lowest = image.getextrema()[-1][0]
        if lowest < 255:
            raise UserError(f"{path} has transparent pixels (alpha down to {lowest}); expected opaque ones")
    elif image.mode not in ("1", "L", "P", "RGB"):
        raise UserError(f"{path} is stored as {image.mode}; expected grey or RGB")
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot read {path}: {_reason(path, error)}")


def _reason(path: Path, error: Exception) -> str:
    """What went wrong, in one line; of a path that does not exist, also what its nearest parent holds."""
    if not isinstance(error, FileNotFoundError) or path.exists():
        return _one_line(error)
    missing = path.absolute()
    parent = missing.parent
    while not parent.exists() and parent != parent.parent:
        missing, parent = parent, parent.parent
    if missing.is_symlink():
        return f"a link to {os.readlink(missing)}, which does not exist"
    try:
        names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    except OSError:
        names = []
    names = difflib.get_close_matches(missing.name, names, n=5) or names
    more = ", ..." if len(names) > 8 else ""
    held = f"; there are: {', '.join(names[:8])}{more}" if names else ""
    return f"{parent} has no '{missing.name}'{held}"


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or " ".join(str(error).split())
    return f"damaged, or of an unsupported kind ({' '.join(str(error).split()) or type(error).__name__})"
