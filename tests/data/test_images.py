"""Reading and writing image files: every accepted kind, and every refused one with what it is told."""

import io
import os
import struct
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import Image

from nsr_cli.data.catalog import images_in
from nsr_cli.data.images import image_size, read_image, write_png
from nsr_cli.errors import UserError


def photo(height=40, width=56):
    """Smooth colour with some noise, (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / (5 + c)) * np.cos(y / (7 - c)) for c in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


RGB = photo()
GREY = RGB[..., 0].copy()


def refusal(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("image", [RGB, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize(
    "name, options",
    [
        ("a.png", {}),
        ("a.PNG", {"compress_level": 0}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
    ],
)
def test_lossless_files(tmp_path, image, name, options):
    path = tmp_path / name
    Image.fromarray(image).save(path, **options)
    image = np.repeat(image[..., None], 3, 2) if name == "a.webp" and image.ndim == 2 else image  # it knows no grey
    out = read_image(path)
    assert out.dtype == np.uint8
    assert out.flags.writeable and out.flags.c_contiguous
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(read_image(str(path)), image)
    assert image_size(path) == image.shape[:2]


@pytest.mark.parametrize("image", [RGB, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_opencv(tmp_path, image, progressive):
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=80, progressive=progressive)
    expected = cv2.imread(str(tmp_path / "a.jpg"), cv2.IMREAD_UNCHANGED)
    out = read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(out, expected if image.ndim == 2 else expected[..., ::-1])
    np.testing.assert_array_equal(out, read_image(tmp_path / "a.jpg"))


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(RGB).save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "turned.jpg"), read_image(tmp_path / "plain.jpg"))
    assert image_size(tmp_path / "turned.jpg") == RGB.shape[:2]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_palette_becomes_rgb(tmp_path, name):
    image = Image.fromarray(RGB).quantize(50)
    image.save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.asarray(image.convert("RGB")))


def test_palette_of_greys_is_rgb_too(tmp_path):
    Image.fromarray(GREY // 16 * 16).quantize(16).save(tmp_path / "a.png")
    out = read_image(tmp_path / "a.png")
    assert out.shape == RGB.shape
    assert (out == out[..., :1]).all()


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(GREY > 128).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.where(GREY > 128, 255, 0))


def test_lossy_webp_equals_opencv(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.webp", quality=80)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), cv2.imread(str(tmp_path / "a.webp"))[..., ::-1])
    assert image_size(tmp_path / "a.webp") == RGB.shape[:2]


def test_animations_are_refused(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    assert refusal(read_image, tmp_path / "a.webp") == f"{tmp_path / 'a.webp'} has 2 frames; expected one"
    assert image_size(tmp_path / "a.webp") == RGB.shape[:2]


@pytest.mark.parametrize("name, image, mode", [
    ("a.png", RGB, "RGBA"), ("a.tif", RGB, "RGBA"), ("a.webp", RGB, "RGBA"),
    ("a.png", GREY, "LA"), ("a.tif", GREY, "LA"),
])  # fmt: skip
def test_alpha(tmp_path, name, image, mode):
    with_alpha = Image.fromarray(image).convert(mode)
    with_alpha.save(tmp_path / name, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / name), image)
    alpha = with_alpha.getchannel("A")
    alpha.putpixel((3, 2), 250)
    with_alpha.putalpha(alpha)
    with_alpha.save(tmp_path / name, lossless=True)
    text = refusal(read_image, tmp_path / name)
    assert text == f"{tmp_path / name} has transparent pixels (alpha down to 250); expected opaque ones"


@pytest.mark.parametrize("image", [RGB, GREY, "palette"], ids=["rgb", "grey", "palette"])
def test_transparent_colour_of_a_png(tmp_path, image):
    if isinstance(image, str):
        image = Image.fromarray(RGB).quantize(50)
        used, unused = bytes([0]) + bytes([255] * 49), bytes([255] * 50)
    else:
        absent = [v for v in range(256) if not (image == v).any()][0] if image.ndim == 2 else (1, 2, 3)
        used, unused = image[5, 5].tolist(), absent
        used, image = tuple(used) if image.ndim == 3 else used, Image.fromarray(image)
    image.save(tmp_path / "unused.png", transparency=unused)
    np.testing.assert_array_equal(
        read_image(tmp_path / "unused.png"), np.asarray(image.convert("RGB") if image.mode == "P" else image)
    )
    image.save(tmp_path / "used.png", transparency=used)
    assert "used.png has transparent pixels (alpha down to 0)" in refusal(read_image, tmp_path / "used.png")


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("image", [RGB, GREY], ids=["rgb", "grey"])
def test_16_bits_are_refused(tmp_path, extension, image):
    path = tmp_path / f"deep.{extension}"
    assert cv2.imwrite(str(path), image.astype(np.uint16) * 257)
    assert refusal(read_image, path) == f"{path} has 16 bits per channel; expected 8"
    assert image_size(path) == image.shape[:2]


def test_floats_are_refused(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tif")
    assert "a.tif has 32 bits per channel" in refusal(read_image, tmp_path / "a.tif")


@pytest.mark.parametrize("name, mode", [("a.jpg", "CMYK"), ("a.tif", "CMYK"), ("a.tif", "LAB")])
def test_other_colour_spaces_are_refused(tmp_path, name, mode):
    Image.fromarray(RGB).convert(mode).save(tmp_path / name)
    assert refusal(read_image, tmp_path / name) == f"{tmp_path / name} is stored as {mode}; expected grey or RGB"


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
        expected = "50000x50000, 2,500 megapixels; expected at most 268 (NSR_MAX_MEGAPIXELS=... raises the limit)"
        assert text == f"{tmp_path / name} is {expected}"
        monkeypatch.setenv("NSR_MAX_MEGAPIXELS", "2499.9")
        assert "expected at most 2,500 (" in refusal(function, tmp_path / name)
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


@pytest.mark.parametrize("image", [RGB, GREY, RGB[::2, ::-3], GREY[:1, :1]])
def test_write_png_round_trip(tmp_path, image):
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
    write_png(str(tmp_path / "a.png"), 255 - image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), 255 - image)
    assert os.listdir(tmp_path) == ["a.png"]


def test_write_png_heeds_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_png(tmp_path / "a.png", GREY)
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_png_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
    write_png(tmp_path / "a.png", GREY)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_png(tmp_path / "a.png", RGB)
    assert os.listdir(tmp_path) == ["a.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY)


def test_write_png_makes_its_folder_and_refuses_to_replace_one(tmp_path):
    write_png(tmp_path / "new" / "a.png", GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), GREY)
    with pytest.raises(IsADirectoryError):
        write_png(tmp_path / "new", GREY)
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize(
    "image",
    [RGB / 255, RGB.astype(np.int64), RGB[..., :2], RGB[..., :1], RGB[None], GREY[0], GREY[:0]],
)
def test_write_png_refuses_other_arrays(tmp_path, image):
    text = refusal(write_png, tmp_path / "a.png", image)
    assert f"{image.dtype} of shape {image.shape}; expected uint8 of shape (H, W) or (H, W, 3)" in text
    assert os.listdir(tmp_path) == []


def test_benchmarks(nsr_data):
    # data/README.md: bridge is the one grey image of Set14; the BSDS500 photographs are 481x321 or 321x481
    shapes = {path.stem: read_image(path).shape for path in images_in(nsr_data / "Set14")}
    assert [name for name, shape in shapes.items() if len(shape) == 2] == ["bridge"]
    path = images_in(nsr_data / "BSDS500" / "train")[0]
    assert sorted(read_image(path).shape) == [3, 321, 481]
    assert sorted(image_size(path)) == [321, 481]
