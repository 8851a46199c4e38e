"""Files that are cut, damaged, huge, or no images at all: each is refused in one line that names it."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL import Image
from pixels import GREY, RGB, photo, refusal

from nsr_cli.data.images import image_size, read_image, write_png

KINDS = {
    "colour.png": dict(format="PNG"),
    "colour.jpg": dict(format="JPEG"),
    "progressive.jpg": dict(format="JPEG", progressive=True),
    "colour.bmp": dict(format="BMP"),
    "colour.tif": dict(format="TIFF"),
    "lzw.tif": dict(format="TIFF", compression="tiff_lzw"),
    "lossy.webp": dict(format="WEBP"),
    "lossless.webp": dict(format="WEBP", lossless=True),
    "extended.webp": dict(format="WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF|Truncated File:UserWarning")  # Pillow, about cut TIFF headers
@pytest.mark.parametrize("name", KINDS)
def test_truncated_files_are_refused(tmp_path, name):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, **KINDS[name])
    whole = buffer.getvalue()
    cuts = {0, 1, 2, 3, 8, 20, 33, *range(40, len(whole), 97), *range(len(whole) - 20, len(whole))}
    for cut in sorted(cuts):
        (tmp_path / name).write_bytes(whole[:cut])
        assert refusal(read_image, tmp_path / name).startswith(f"cannot read {tmp_path / name}: ")
    (tmp_path / name).write_bytes(whole + b"and something behind it")
    assert read_image(tmp_path / name).shape == RGB.shape


@pytest.mark.parametrize("name", ["colour.png", "colour.jpg", "progressive.jpg"])
def test_half_written_files_are_refused(tmp_path, name):
    # a download that was broken off after its file had been given its full size
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, **KINDS[name])
    whole = buffer.getvalue()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    assert f"cannot read {tmp_path / name}: " in refusal(read_image, tmp_path / name)


def test_any_changed_bit_of_a_png_is_noticed(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    whole = buffer.getvalue()
    for at in range(8, len(whole), 61):
        changed = bytearray(whole)
        changed[at] ^= 4
        (tmp_path / "a.png").write_bytes(changed)
        refusal(read_image, tmp_path / "a.png")


def test_what_is_no_image(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    Image.fromarray(GREY).save(tmp_path / "gif.png", "GIF")
    (tmp_path / "folder.png").mkdir()
    for function in (read_image, image_size):
        for name, reason in [
            ("empty.png", "the file is empty"),
            ("text.jpg", "not a PNG, JPEG, BMP, TIFF or WebP image"),
            ("gif.png", "not a PNG, JPEG, BMP, TIFF or WebP image"),
            ("folder.png", "a folder, not a file"),
        ]:
            assert refusal(function, tmp_path / name) == f"cannot read {tmp_path / name}: {reason}"


def test_missing_file_names_similar_ones(tmp_path):
    for name in ("0801.png", "0802.png", "readme.txt"):
        (tmp_path / name).touch()
    for function in (read_image, image_size):
        text = refusal(function, tmp_path / "0803.png")
        assert f"{tmp_path} has no '0803.png'; there are: " in text
        assert "0801.png" in text and "0802.png" in text and "readme" not in text


def test_link_to_nothing(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "annex")
    assert f"a link to {tmp_path / 'annex'}, which does not exist" in refusal(read_image, tmp_path / "a.png")


def test_size_needs_the_header_alone(tmp_path):
    for name, options in KINDS.items():
        if options["format"] != "TIFF":  # its header may be at the end
            buffer = io.BytesIO()
            Image.fromarray(photo(200, 300)).save(buffer, **options)
            (tmp_path / name).write_bytes(buffer.getvalue()[:700])
            assert image_size(tmp_path / name) == (200, 300)


def huge_png(side: int) -> bytes:
    """The header of a square RGB image, and no pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT", b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def huge_webp(side: int) -> bytes:
    content = b"VP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (side - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


@pytest.mark.parametrize("name, content", [("a.png", huge_png(50_000)), ("a.webp", huge_webp(50_000))])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, monkeypatch, name, content):
    (tmp_path / name).write_bytes(content)
    for function in (read_image, image_size):
        text = refusal(function, tmp_path / name)
        expected = "50000x50000, 2,500 megapixels; expected at most 268.435 (NSR_MAX_MEGAPIXELS=... raises the limit)"
        assert text == f"{tmp_path / name} is {expected}"
        monkeypatch.setenv("NSR_MAX_MEGAPIXELS", "2499.9")
        assert "expected at most 2,499.9 (" in refusal(function, tmp_path / name)
        monkeypatch.setenv("NSR_MAX_MEGAPIXELS", "0.02")
        assert "expected at most 0.02 (" in refusal(function, tmp_path / name)
        monkeypatch.delenv("NSR_MAX_MEGAPIXELS")
    monkeypatch.setenv("NSR_MAX_MEGAPIXELS", "2500")
    assert image_size(tmp_path / name) == (50_000, 50_000)


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan"])
def test_a_limit_that_is_none_is_named(tmp_path, monkeypatch, value):
    write_png(tmp_path / "a.png", GREY)
    monkeypatch.setenv("NSR_MAX_MEGAPIXELS", value)
    assert refusal(read_image, tmp_path / "a.png").startswith(f"NSR_MAX_MEGAPIXELS={value}: expected a number above 0")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for function in (read_image, image_size):
        for path in (tmp_path / "pipe.png", "/dev/zero"):
            assert refusal(function, path) == f"cannot read {path}: a device, a pipe or a socket, not a regular file"


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    write_png(path, RGB)
    np.testing.assert_array_equal(read_image(path), RGB)
    path.write_bytes(b"text")
    assert refusal(read_image, path).encode(errors="surrogateescape").startswith(b"cannot read " + os.fsencode(path))


def test_large_images_are_read_without_a_warning(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", RGB)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
        assert image_size(tmp_path / "a.png") == RGB.shape[:2]
