"""Reading image files: every accepted kind, and every refused one with what it is told."""

import cv2
import numpy as np
import pytest
from PIL import Image
from pixels import GREY, RGB, refusal

from nsr_cli.data.catalog import images_in
from nsr_cli.data.images import image_size, read_image


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


def test_the_orientation_of_a_tiff_file_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right side
    Image.fromarray(RGB).save(tmp_path / "a.tif", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.rot90(RGB, -1))
    assert image_size(tmp_path / "a.tif") == RGB.shape[1::-1]


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


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_several_frames_are_refused(tmp_path, name):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert refusal(read_image, tmp_path / name) == f"{tmp_path / name} has 2 frames; expected one"
    assert image_size(tmp_path / name) == RGB.shape[:2]


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


def test_benchmarks(nsr_data):
    # data/README.md: bridge is the one grey image of Set14; the BSDS500 photographs are 481x321 or 321x481
    shapes = {path.stem: read_image(path).shape for path in images_in(nsr_data / "Set14")}
    assert [name for name, shape in shapes.items() if len(shape) == 2] == ["bridge"]
    path = images_in(nsr_data / "BSDS500" / "train")[0]
    assert sorted(read_image(path).shape) == [3, 321, 481]
    assert sorted(image_size(path)) == [321, 481]
