"""Images that a benchmark's user may come with: scored as expected, or one line that names the file and no record."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nsr_cli.data.images import read_image, write_png
from nsr_cli.ops.metrics import psnr
from nsr_cli.ops.resize import imresize


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth shapes with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
    smooth = imresize(coarse, 8.0)[:height, :width]
    return (smooth + rng.integers(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A benchmark of one good image."""
    write_png(tmp_path / "mine/a.png", picture(64, 72))
    return tmp_path / "mine"


def scores(tmp_path: Path) -> dict[str, dict]:
    """The scores by file of the one record, under its one convention."""
    (path,) = tmp_path.glob("results/records/*/*.json")
    (convention,) = json.loads(path.read_text())["scores"].values()
    return convention["images"]


def refused(nsr, tmp_path: Path, line: str, *words: str) -> None:
    result = nsr(f"eval {line}")
    assert result.code == 2, result.out + result.err
    assert result.err.startswith("nsr eval: ") and result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err
    assert not list(tmp_path.glob("results/records/*/*"))


# Files that are not scored


def deep(path: Path) -> None:
    cv2.imwrite(str(path), picture(64, 72).astype(np.uint16) * 257)


def deep_grey(path: Path) -> None:
    cv2.imwrite(str(path), picture(64, 72)[:, :, 0].astype(np.uint16) * 257)


def transparent(path: Path) -> None:
    alpha = np.full((64, 72, 1), 255, np.uint8)
    alpha[10, 10] = 254
    Image.fromarray(np.dstack([picture(64, 72), alpha])).save(path)


def transparent_palette(path: Path) -> None:
    Image.fromarray(picture(64, 72)).quantize(16).save(path, transparency=3)


def cmyk(path: Path) -> None:
    Image.fromarray(picture(64, 72)).convert("CMYK").save(path)


def truncated(path: Path) -> None:
    Image.fromarray(picture(64, 72)).save(path)
    path.write_bytes(path.read_bytes()[:-300])


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (deep, "deep.png", "16 bits per channel; expected 8"),
        (deep_grey, "deep.png", "16 bits per channel; expected 8"),
        (deep, "deep.tif", "16 bits per channel; expected 8"),
        (transparent, "alpha.png", "transparent pixels (alpha down to 254)"),
        (transparent_palette, "palette.png", "transparent pixels (alpha down to 0)"),
        (cmyk, "print.jpg", "stored as CMYK; expected grey or RGB"),
        (truncated, "cut.png", "truncated"),
        (truncated, "cut.jpg", "truncated"),
        (empty, "nothing.png", "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_scored_is_named(nsr, tmp_path, folder, make, name, words):
    make(folder / name)
    refused(nsr, tmp_path, "benchmarks=[./mine]", f"mine/{name}", words)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ((1, 40), ""),  # smaller than the scale
        ((14, 40), ""),  # nothing is left inside of the border, 8 pixels on each side
        ((26, 40), ""),  # 10 rows are left: fewer than SSIM's window
        ((26, 40), "scale=4"),
        ((10, 40), "model=identity task=denoise"),
        ((7, 40), "model=identity task=dejpeg"),
    ],
)
def test_an_image_too_small_to_be_scored_is_named(nsr, tmp_path, folder, size, line):
    write_png(folder / "small.png", picture(*size))
    refused(nsr, tmp_path, f"benchmarks=[./mine] {line}", "small.png")


def test_the_smallest_image_that_can_be_scored(nsr, tmp_path, folder):
    write_png(folder / "small.png", picture(27 + 1, 27 + 1))  # 8 + 11 + 8, made even
    assert nsr("eval benchmarks=[./mine]").code == 0
    assert 0 < scores(tmp_path)["small.png"]["ssim"] < 1


# Files that are scored as what they show


def test_alpha_that_hides_nothing_and_palettes_do_not_matter(nsr, tmp_path, folder):
    image = picture(64, 72)
    Image.fromarray(np.dstack([image, np.full((64, 72), 255, np.uint8)])).save(folder / "alpha.png")
    palette = Image.fromarray(image).quantize(200)
    palette.save(folder / "palette.png")
    write_png(folder / "palette-as-rgb.png", np.asarray(palette.convert("RGB")))
    assert nsr("eval benchmarks=[./mine]").code == 0
    found = scores(tmp_path)
    assert found["alpha.png"] == found["a.png"]
    assert found["palette.png"] == found["palette-as-rgb.png"] != found["a.png"]


@pytest.mark.parametrize("line", ["scale=2", "model=identity task=denoise", "model=identity task=dejpeg"])
def test_a_grey_image_among_colour_ones(nsr, tmp_path, folder, line):
    grey = picture(64, 72)[:, :, 0]
    write_png(folder / "grey.png", grey)
    result = nsr(f"eval benchmarks=[./mine] {line}")
    assert result.code == 0, result.err
    found = scores(tmp_path)["grey.png"]["psnr"]
    if line == "scale=2":
        restored = imresize(imresize(grey, 0.5), 2.0)
        assert found == pytest.approx(psnr(restored[8:-8, 8:-8], grey[8:-8, 8:-8]), abs=1e-9)
    else:
        assert 15 < found < 50


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sides_that_the_scale_does_not_divide_are_cut_right_and_below(nsr, tmp_path, folder, scale):
    image = picture(71, 83)
    write_png(folder / "odd.png", image)
    write_png(folder / "cut.png", image[: 71 // scale * scale, : 83 // scale * scale])
    assert nsr(f"eval benchmarks=[./mine] scale={scale}").code == 0
    found = scores(tmp_path)
    assert found["odd.png"] == found["cut.png"]


# DIV2K's official low-resolution images


@pytest.fixture
def div2k(tmp_path) -> Path:
    """A folder that looks like DIV2K's, of two validation images; returns that of the low-resolution ones at x2."""
    for number in (801, 802):
        write_png(tmp_path / f"DIV2K_valid_HR/{number:04d}.png", picture(64, 72, number))
    return tmp_path / "DIV2K_valid_LR_bicubic/X2"


def partner(div2k: Path, number: int, image: np.ndarray | None = None) -> None:
    truth = read_image(div2k.parents[1] / f"DIV2K_valid_HR/{number:04d}.png")
    write_png(div2k / f"{number:04d}x2.png", imresize(truth, 0.5) if image is None else image)


def test_official_partners_are_what_the_method_is_given(nsr, tmp_path, div2k):
    partner(div2k, 801)
    partner(div2k, 802, np.full((32, 36, 3), 128, np.uint8))
    assert nsr("eval benchmarks=[./DIV2K_valid_HR]").code == 0
    truth = read_image(tmp_path / "DIV2K_valid_HR/0802.png")
    expected = psnr(np.full((48, 56, 3), 128), truth[8:-8, 8:-8])
    assert scores(tmp_path)["0802.png"]["psnr"] == pytest.approx(expected, abs=1e-9)
    assert scores(tmp_path)["0801.png"]["psnr"] > expected + 5


def test_a_missing_partner_is_named(nsr, tmp_path, div2k):
    partner(div2k, 801)
    refused(nsr, tmp_path, "benchmarks=[./DIV2K_valid_HR]", "0802.png", str(div2k.relative_to(tmp_path) / "0802x2.png"))


@pytest.mark.parametrize("shape", [(32, 35, 3), (33, 36, 3), (64, 72, 3)])
def test_a_partner_of_another_size_is_named(nsr, tmp_path, div2k, shape):
    partner(div2k, 801)
    partner(div2k, 802, np.zeros(shape, np.uint8))
    found = f"0802x2.png is {shape[1]}x{shape[0]}, expected 36x32: 0802.png at 1/2"
    refused(nsr, tmp_path, "benchmarks=[./DIV2K_valid_HR]", found)


def test_a_damaged_partner_is_named(nsr, tmp_path, div2k):
    partner(div2k, 801)
    partner(div2k, 802)
    path = div2k / "0802x2.png"
    path.write_bytes(path.read_bytes()[:500])
    refused(nsr, tmp_path, "benchmarks=[./DIV2K_valid_HR]", "0802x2.png", "truncated")


def test_without_a_folder_of_partners_or_at_another_scale_matlabs_bicubic_stands_in(nsr, tmp_path, div2k):
    assert nsr("eval benchmarks=[./DIV2K_valid_HR]").code == 0
    before = scores(tmp_path)
    for number in (801, 802):
        partner(div2k, number)
    assert nsr("eval benchmarks=[./DIV2K_valid_HR] rescore=true").code == 0
    assert scores(tmp_path) == before
    assert nsr("eval benchmarks=[./DIV2K_valid_HR] scale=4").code == 0
