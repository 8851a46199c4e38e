"""A user's own pictures keep what belongs to them: alpha, 16 bits, orientation, EXIF data, colour profile."""

import errno
import resource

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from nsr_cli.data.pictures import KINDS, Canvas, check_format, read_picture, upright
from nsr_cli.errors import Failed, UserError

RNG = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, ORIENTATION, DETAILS, TAKEN, WIDTH = 271, 274, 34665, 36867, 40962


def random(channels: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (9, 7, channels), dtype=dtype)


def exif() -> Image.Exif:
    made = Image.Exif()
    made[MAKE] = "A camera"
    made[DETAILS] = {TAKEN: "2020:01:01 00:00:00", WIDTH: 3}
    return made


def written(path, pixels: np.ndarray, icc: bytes | None = PROFILE):
    """The picture that is read from what a canvas has written, in two parts."""
    canvas = Canvas(path, pixels.shape[:2], pixels.shape[2], pixels.dtype == np.uint16)
    canvas.put(0, 0, pixels[:4].astype(canvas.dtype))
    canvas.put(4, 0, pixels[4:, :3].astype(canvas.dtype))
    canvas.put(4, 3, pixels[4:, 3:].astype(canvas.dtype))
    canvas.write(exif(), icc)
    return read_picture(path)


def all_channels(picture) -> np.ndarray:
    parts = [picture.colour, picture.alpha] if picture.alpha is not None else [picture.colour]
    return np.concatenate([np.atleast_3d(part) for part in parts], axis=2)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".jpg"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read(tmp_path, suffix, channels):
    path, pixels = tmp_path / f"a/b{suffix}", random(channels)
    if suffix in (".jpg", ".bmp") and channels in (2, 4):
        with pytest.raises(UserError, match=f"{KINDS[suffix]} holds no alpha; format=png does"):
            check_format(path, 9, 7, alpha=True)
        return
    picture = written(path, pixels)
    assert (picture.alpha is None) == (channels in (1, 3)) and picture.channels == (
        channels + 2 if suffix == ".webp" and channels < 3 else channels  # it knows no grey
    )
    expected = pixels if suffix != ".webp" or channels > 2 else np.concatenate([pixels[..., :1]] * 2 + [pixels], axis=2)
    if suffix != ".jpg":
        np.testing.assert_array_equal(all_channels(picture), expected)
    assert [path] == list(path.parent.iterdir())
    assert picture.icc == (None if suffix == ".bmp" else PROFILE)
    if suffix != ".bmp":
        assert picture.exif[MAKE] == "A camera" and picture.exif[DETAILS] == {TAKEN: "2020:01:01 00:00:00", WIDTH: 7}


@pytest.mark.parametrize(
    ("suffix", "channels"), [(s, c) for s in (".png", ".tif") for c in (1, 2, 3, 4) if (s, c) != (".tif", 2)]
)
def test_16_bits_are_kept(tmp_path, suffix, channels):
    pixels = random(channels, np.uint16)
    picture = written(tmp_path / f"a{suffix}", pixels, icc=PROFILE if channels > 2 else None)
    assert picture.colour.dtype == np.uint16
    np.testing.assert_array_equal(all_channels(picture), pixels)
    assert picture.icc == (PROFILE if channels > 2 else None) and picture.exif[MAKE] == "A camera"
    if channels != 2:  # OpenCV reads no grey with alpha as such
        other = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(
            np.atleast_3d(other), pixels[:, :, [2, 1, 0, 3][:channels] if channels > 1 else [0]]
        )


def test_16_bits_of_grey_with_alpha_as_tiff(tmp_path):
    """Which Pillow cannot open."""
    canvas, pixels = Canvas(tmp_path / "a.tif", (9, 7), 2, deep=True), random(2, np.uint16)
    canvas.put(0, 0, pixels)
    canvas.write(exif(), None)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)


def test_16_bits_of_formats_that_have_8(tmp_path):
    assert Canvas(tmp_path / "a.webp", (2, 2), 3, deep=True).dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(tmp_path, orientation):
    made = exif()
    made[ORIENTATION] = orientation
    image = Image.fromarray(random(3))
    image.save(tmp_path / "a.png", exif=made)
    with Image.open(tmp_path / "a.png") as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.colour, expected)
    assert ORIENTATION not in picture.exif and picture.exif[MAKE] == "A camera"
    deep = random(3, np.uint16)
    tags = [(ORIENTATION, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extratags=tags, metadata=None)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").colour, upright(deep, orientation))
    np.testing.assert_array_equal(upright(np.asarray(image), orientation), expected)


def test_exif_data_of_a_tiff_goes_into_other_formats(tmp_path):
    """Pillow lists with it where the strips of that file lie."""
    picture = written(tmp_path / "a.tif", random(3))
    for name in ("b.jpg", "b.webp", "b.png", "b.tif"):
        canvas = Canvas(tmp_path / name, (18, 14), 3, deep=False)
        canvas.write(picture.exif, picture.icc)
        read = read_picture(tmp_path / name)
        assert read.colour.shape == (18, 14, 3)
        assert read.exif[DETAILS] == {TAKEN: "2020:01:01 00:00:00", WIDTH: 14} and read.exif[MAKE] == "A camera"


def test_damaged_exif_data_does_not_matter(tmp_path):
    Image.fromarray(random(3)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    picture = read_picture(tmp_path / "a.jpg")
    assert len(picture.exif) == 0 and picture.colour.shape == (9, 7, 3)


def test_palettes_and_single_bits(tmp_path):
    image = Image.fromarray(random(3)).quantize(5)
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 255, 255, 255]))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.colour, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 0)
    Image.fromarray(random(1)[:, :, 0] > 99).save(tmp_path / "b.png")
    assert set(np.unique(read_picture(tmp_path / "b.png").colour)) == {0, 255}


def test_16_bits_of_a_compressed_tiff_of_another_program(tmp_path):
    pixels = random(3, np.uint16)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])  # LZW, with a predictor
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").colour, pixels[:, :, ::-1])


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bits_of_a_tiff_of_separate_planes(tmp_path, channels):
    """Once other pixels, without a word."""
    pixels = random(channels, np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    planes = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", metadata=None, **extra)
    np.testing.assert_array_equal(all_channels(read_picture(tmp_path / "a.tif")), pixels)


def premultiplied(path):
    form = {"photometric": "rgb", "planarconfig": "contig", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(path, random(4, np.uint16), **form)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.tif", premultiplied, "colours are multiplied by alpha; expected straight alpha"),
        ("a.jpg", lambda p: Image.new("CMYK", (4, 4)).save(p), "is stored as CMYK; expected grey or RGB"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.zeros((4, 4), np.float32)), "has 32 bits per channel"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.zeros((4, 4), np.int16)), "not grey or RGB in unsigned"),
        ("a.tif", lambda p: Image.new("L", (4, 4)).save(p, save_all=True, append_images=[Image.new("L", (4, 4))]),
         "has 2 frames; expected one"),
        ("a.webp", lambda p: Image.new("L", (4, 4)).save(p, save_all=True, append_images=[Image.new("L", (4, 4), 9)]),
         "has 2 frames; expected one"),
        ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + 20 * b"x"), "cannot read"),
        ("a.png", lambda p: p.write_text("text"), "not a PNG, JPEG, BMP, TIFF or WebP image"),
        ("a.png", lambda p: p.mkdir(), "a folder, not a file"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(UserError, match=message) as refused:
        read_picture(tmp_path / name)
    assert name in str(refused.value)


def test_a_truncated_16_bit_file(tmp_path):
    for name in ("a.png", "a.tif"):
        written(tmp_path / name, random(3, np.uint16), None)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match=name):
            read_picture(tmp_path / name)


def test_sides_that_a_format_has_not(tmp_path):
    with pytest.raises(
        UserError, match=r"a\.webp: 20000x10, but WEBP holds at most 16383x16383 pixels; format=png does"
    ):
        check_format(tmp_path / "a.webp", 10, 20000, alpha=True)
    check_format(tmp_path / "a.tif", 10, 200000, alpha=True)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "16.png", "16.tif"])
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, capfd, name):
    path, before = tmp_path / name, resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("before")
    pixels = RNG.integers(0, 256, (200, 200, 3)).astype(np.uint16 if name.startswith("16") else np.uint8)
    canvas = Canvas(path, (200, 200), 3, deep=name.startswith("16"))
    canvas.put(0, 0, pixels)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as a disk that is full, or a quota
    try:
        with pytest.raises((OSError, Failed)) as full:
            canvas.write(Image.Exif(), None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr() == ("", "")  # libtiff would print
    if isinstance(full.value, OSError):
        assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(path))
    else:
        assert f"{path} cannot be written" in str(full.value) and "is the disk full?" in str(full.value)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
