"""Reading and writing a user's pictures with alpha, 16 bits, orientation, EXIF data and colour profile."""

import contextlib
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from PIL import Image as PillowImage

from nsr_cli.data.images import PNG, depth_of, open_image
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import replacing

KINDS = {".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
KINDS |= {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_SIDE = {"JPEG": 65535, "WEBP": 16383}  # pixels
OPTIONS = {  # JPEG at high quality; the others are lossless
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # colour types of PNG, by channels
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
ORIENTATION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT = 274, 262, 277, 338, 339  # tags of TIFF and EXIF
PREMULTIPLIED = 1  # an extra sample: alpha that the colours are already multiplied by
EXIF_IFD, GPS_IFD, WIDTH, HEIGHT = 34665, 34853, 40962, 40963
TEXTS = {270: "ImageDescription", 271: "Make", 272: "Model", 306: "DateTime", 315: "Artist", 33432: "Copyright"}
KEPT_TAGS = (*TEXTS, 282, 283, 296, 305, 316, 18246, 18249, *range(40091, 40096))  # resolution, software, titles


@dataclass(frozen=True)
class Picture:
    """A picture in upright orientation.

    Attributes:
        colour: (H, W) grey or (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same dtype, or None.
        exif: its EXIF data, without the orientation, which is applied.
        icc: its colour profile, or None.
    """

    colour: np.ndarray
    alpha: np.ndarray | None
    exif: PillowImage.Exif
    icc: bytes | None

    @property
    def channels(self) -> int:
        """The number of channels of colour and alpha together."""
        return (1 if self.colour.ndim == 2 else 3) + (self.alpha is not None)


def read_picture(path: Path) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF or BMP file; its orientation is applied, by a view of the pixels.

    Raises:
        UserError: the file cannot be read (see nsr_cli.data.images), is not grey or RGB, or has several frames, or
            other than 8 or 16 bits per channel; the text names the file.
    """
    with warnings.catch_warnings(action="ignore"), open_image(path) as (image, data):  # Pillow warns of odd EXIF data
        if (depth := depth_of(image, data)) not in (1, 2, 4, 8, 16):
            raise UserError(f"{path} has {depth} bits per channel; expected 8 or 16")
        icc, tags = image.info.get("icc_profile"), PillowImage.Exif()
        with contextlib.suppress(Exception):  # damaged EXIF data is no reason to refuse the pixels
            tags = image.getexif()
        pixels = _read_16_bit(path, image, data) if depth == 16 else np.asarray(_as_8_bit(path, image))
        pixels = upright(pixels, tags.get(ORIENTATION, 1))
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        grey = pixels.shape[2] < 3
        alpha = pixels[:, :, -1] if pixels.shape[2] in (2, 4) else None
        return Picture(pixels[:, :, 0] if grey else pixels[:, :, :3], alpha, _kept_exif(tags), icc)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view (H, W[, C]) of the pixels, turned upright by the EXIF orientation, 1 to 8 (EXIF 2.32, Section 4.6.4)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def _as_8_bit(path: Path, image: PillowImage.Image) -> PillowImage.Image:
    """An image of 8 bits per channel as L, LA, RGB or RGBA."""
    image.load()
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        raise UserError(f"{path} is stored as {image.mode}; expected grey or RGB")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    mode += "A" if image.has_transparency_data else ""
    return image if image.mode == mode else image.convert(mode)


def _read_16_bit(path: Path, image: PillowImage.Image, data: bytes) -> np.ndarray:
    """The pixels of a file of 16 bits per channel, uint16 (H, W[, C]), which Pillow would cut down to 8."""
    if image.format == "PNG":
        samples = 2 if data[25] == PNG_COLOUR[2] else None  # by the colour type in IHDR
    else:
        tags, samples = image.tag_v2, image.tag_v2.get(SAMPLES, 1)
        if tags.get(PHOTOMETRIC) not in (1, 2) or max(np.atleast_1d(tags.get(SAMPLE_FORMAT, 1))) != 1:
            raise UserError(f"{path}: a TIFF of 16 bits that is not grey or RGB in unsigned whole numbers")
        if PREMULTIPLIED in np.atleast_1d(tags.get(EXTRA_SAMPLES, ())):
            raise UserError(f"{path}: a TIFF of 16 bits whose colours are multiplied by alpha; expected straight alpha")
        with tifffile.TiffFile(buffer := BytesIO(data), mode="r+") as file:
            if tag := file.pages[0].tags.get(ORIENTATION):
                tag.overwrite(1)  # some versions of OpenCV would turn the picture
            if file.pages[0].planarconfig == tifffile.PLANARCONFIG.SEPARATE:  # OpenCV would mix up the channels
                return np.moveaxis(file.pages[0].asarray(), 0, -1)
        data = buffer.getvalue()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError(f"cannot read {path}: damaged, or of an unsupported kind of 16 bits per channel")
    if pixels.ndim == 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
        pixels = pixels[:, :, [0, 3]] if samples == 2 else pixels  # OpenCV returns grey with alpha as colour
    return pixels


def _kept_exif(tags: PillowImage.Exif) -> PillowImage.Exif:
    """The EXIF data of the photograph, without that of its file, so that it holds in other formats too."""
    exif = PillowImage.Exif()
    try:
        exif.update({tag: tags[tag] for tag in KEPT_TAGS if tag in tags})
        for ifd in (EXIF_IFD, GPS_IFD):
            if found := {tag: value for tag, value in tags.get_ifd(ifd).items() if not isinstance(value, dict)}:
                exif[ifd] = found
        exif.tobytes()
        return exif
    except Exception:  # damaged: many kinds
        return PillowImage.Exif()


def check_format(path: Path, height: int, width: int, alpha: bool) -> None:
    """Raise UserError unless the format of an output file can hold a picture of this size, with alpha or without."""
    kind = KINDS[path.suffix.lower()]
    if max(height, width) > MAX_SIDE.get(kind, 2**31 - 1):
        most = MAX_SIDE[kind]
        raise UserError(f"{path}: {width}x{height}, but {kind} holds at most {most}x{most} pixels; format=png does")
    if alpha and kind in ("JPEG", "BMP"):
        raise UserError(f"{path}: {kind} holds no alpha; format=png does")


class Canvas:
    """A picture that is filled part by part, then written; nothing else of its size is in memory.

    Args:
        path: of the file; its suffix chooses the format.
        size: (height, width).
        channels: 1 grey, 2 grey with alpha, 3 RGB, 4 RGB with alpha.
        deep: whether 16 bits per channel are wanted; formats without them take 8.

    Attributes:
        dtype: of its pixels, uint8 or uint16.
    """

    def __init__(self, path: Path, size: tuple[int, int], channels: int, deep: bool):
        self.path, self.kind, self.size = path, KINDS[path.suffix.lower()], size
        self.dtype = np.uint16 if deep and self.kind in WRITERS_16_BIT else np.uint8
        if self.dtype == np.uint16:
            self.pixels = np.empty((*size, channels), np.uint16)
        else:
            self.image = PillowImage.new(MODES[channels], size[::-1])

    def put(self, top: int, left: int, pixels: np.ndarray) -> None:
        """Fill a part with pixels (rows, columns, channels) of the canvas's dtype."""
        if self.dtype == np.uint16:
            self.pixels[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
            return
        pixels = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        self.image.paste(PillowImage.fromarray(pixels), (left, top))

    def write(self, exif: PillowImage.Exif, icc: bytes | None) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError, Failed, UserError: the file cannot be written.
        """
        details = exif.get(EXIF_IFD, {})
        for tag, side in zip((HEIGHT, WIDTH), self.size, strict=True):
            if tag in details:
                details[tag] = side
        with replacing(self.path) as temporary:
            try:
                with open(temporary, "wb+") as file:
                    writer = self._write if self.dtype == np.uint8 else WRITERS_16_BIT[self.kind]
                    writer(file, self.pixels if self.dtype == np.uint16 else self.image, exif, icc)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise Failed(f"{self.path} cannot be written ({error}); is the disk full?") from None
            except (ValueError, RuntimeError) as error:  # for example EXIF data too long for JPEG
                raise UserError(f"{self.path} cannot be written as {self.kind} ({error})") from None

    def _write(self, file: BinaryIO, image: PillowImage.Image, exif: PillowImage.Exif, icc: bytes | None) -> None:
        tiff = BytesIO()  # libtiff, given a file, prints what the system refuses; Python's errors say it
        target = tiff if self.kind == "TIFF" else SimpleNamespace(write=file.write, flush=file.flush)
        options = dict(OPTIONS.get(self.kind, {}))
        if self.kind == "TIFF" and any(ifd in exif for ifd in (EXIF_IFD, GPS_IFD)):
            del options["compression"]  # Pillow writes no EXIF directories into compressed TIFFs
        if self.kind != "BMP":
            options |= {"exif": exif.tobytes()} if len(exif) else {}
            options |= {"icc_profile": icc} if icc else {}
        image.save(target, self.kind, **options)
        file.write(tiff.getbuffer())


def _write_16_bit_tiff(file: BinaryIO, pixels: np.ndarray, exif: PillowImage.Exif, icc: bytes | None) -> None:
    """Write a TIFF of 16 bits per channel; only the texts of EXIF data, because tifffile writes no EXIF directories."""
    channels = pixels.shape[2]
    form = {"photometric": "rgb", "planarconfig": "contig"} if channels > 2 else {"photometric": "minisblack"}
    form |= {"planarconfig": "contig", "extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    texts = [(tag, "s", 0, str(exif[tag]), True) for tag in TEXTS if tag in exif]
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    tifffile.imwrite(file, pixels, compression="zlib", iccprofile=icc, metadata=None, extratags=texts, **form)


def _write_16_bit_png(file: BinaryIO, pixels: np.ndarray, exif: PillowImage.Exif, icc: bytes | None) -> None:
    """Write a PNG of 16 bits per channel, row by row (W3C PNG, Third Edition, Sections 5, 9 and 11)."""

    def chunk(kind: bytes, content: bytes) -> None:
        checksum = zlib.crc32(content, zlib.crc32(kind))
        file.write(len(content).to_bytes(4) + kind + content + checksum.to_bytes(4))

    height, width, channels = pixels.shape
    file.write(PNG)
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[channels], 0, 0, 0))
    if icc:
        chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if len(exif):
        chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    packer, above = zlib.compressobj(), np.zeros(2 * width * channels, np.uint8)
    for row in pixels:
        line = row.astype(">u2").ravel().view(np.uint8)
        if packed := packer.compress(b"\2" + (line - above).tobytes()):  # filter 2: less the row above
            chunk(b"IDAT", packed)
        above = line
    chunk(b"IDAT", packer.flush())
    chunk(b"IEND", b"")


WRITERS_16_BIT = {"PNG": _write_16_bit_png, "TIFF": _write_16_bit_tiff}  # formats with 16 bits per channel
