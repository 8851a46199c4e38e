"""A user's picture is restored as images are scored, strip by strip, whatever it is of."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from terminal import environment

from nsr_cli.classical.bicubic import upscale
from nsr_cli.data.pictures import Picture, read_picture
from nsr_cli.engine import evaluator
from nsr_cli.engine.restoring import GAP, Restorer, enlarged, restore_picture
from nsr_cli.errors import UserError
from nsr_cli.models.luma import GAIN, luma
from nsr_cli.models.tiled import tiling_of
from nsr_cli.models.vdsr import VDSR
from nsr_cli.models.wdsr import WDSR
from nsr_cli.ops.color import quantize
from nsr_cli.ops.resize import imresize

RNG = np.random.default_rng(0)


def picture(
    height: int = 70, width: int = 90, channels: int = 3, dtype: type = np.uint8, alpha: bool = False
) -> Picture:
    """Smooth shapes."""
    small = RNG.integers(0, 256, (-(-height // 10), -(-width // 10), channels + alpha)).astype(np.float64)
    pixels = quantize(imresize(small, 10.0)[:height, :width] / 255 * np.iinfo(dtype).max, dtype)
    colour = pixels[:, :, 0] if channels == 1 else pixels[:, :, :channels]
    return Picture(colour, pixels[:, :, -1] if alpha else None, Image.Exif(), None)


def network(scale: int, channels: int, gate: str = "softmax") -> WDSR:
    torch.manual_seed(0)
    made = WDSR(scale, channels, blocks=1, units=8, width=2, gate=gate, sparsity_groups=2 if gate != "none" else 1)
    made.tile = 32
    return made


def restorer(scale: int = 2, channels: int = 3, colour: str = "channels", gate: str = "softmax") -> Restorer:
    made = network(scale, channels, gate)
    return Restorer(made, channels, scale, colour, tiling_of(made))


def restored(tmp_path, by: Restorer, given: Picture, name: str = "a.png", **changes) -> Picture:
    asked = {"comparison": None, "overwrite": False, "progress": lambda tiles: None} | changes
    restore_picture(by, given, tmp_path / name, **asked)
    return read_picture(tmp_path / name)


@pytest.mark.parametrize(("scale", "channels"), [(2, 3), (3, 3), (1, 1)])
def test_the_pixels_are_those_of_scoring(tmp_path, scale, channels):
    by, given = restorer(scale, channels), picture(channels=channels)
    with torch.no_grad():
        expected = evaluator.restore(by.method.eval(), given.colour, scale, by.tiling)
    found = restored(tmp_path, by, given)
    np.testing.assert_array_equal(found.colour, expected)
    assert found.alpha is None


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (31, 33), (64, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_pictures(tmp_path, size, channels):
    steps = []
    found = restored(tmp_path, restorer(), picture(*size, channels, alpha=True), progress=steps.append)
    assert found.colour.shape[:2] == (2 * size[0], 2 * size[1]) and found.alpha.shape == found.colour.shape[:2]
    assert found.colour.ndim == (2 if channels == 1 else 3)  # grey stays grey
    assert sum(steps) == restorer().tiles(*size)


def test_colour_by_channel_is_grey_three_times(tmp_path):
    by, given = restorer(1, 1), picture()
    found = restored(tmp_path, by, given)
    for i in range(3):
        one = Picture(given.colour[:, :, i], None, Image.Exif(), None)
        np.testing.assert_array_equal(restored(tmp_path, by, one, f"{i}.png").colour, found.colour[:, :, i])


def test_colour_by_luma_keeps_chroma(tmp_path):
    by, given = restorer(1, 1, "luma", gate="none"), picture()
    given = Picture(given.colour // 2 + 64, None, given.exif, None)  # nothing is clipped
    with torch.no_grad():
        y = luma(torch.from_numpy(given.colour).permute(2, 0, 1)[None] / 255)
        change = (by.method.eval()(y) - y)[0, 0].numpy() * 255 * GAIN
    found = restored(tmp_path, by, given).colour.astype(float) - given.colour
    inside = np.abs(change) < 50
    assert inside.mean() > 0.5 and np.abs(found - change[:, :, None])[inside].max() < 0.6


def test_a_network_of_luma_enlarges_chroma_bicubically(tmp_path):
    torch.manual_seed(0)
    made = VDSR(2)
    found = restored(tmp_path, Restorer(made, 1, 2, "luma", tiling_of(made)), picture(20, 24))
    assert found.colour.shape == (40, 48, 3)
    assert restored(tmp_path, Restorer(made, 1, 2, "luma", tiling_of(made)), picture(8, 9, 1), "b.png").colour.ndim == 2


def test_alpha_is_enlarged_bicubically(tmp_path):
    given = picture(alpha=True)
    found = restored(tmp_path, restorer(), given)
    np.testing.assert_array_equal(found.alpha, imresize(given.alpha, 2))
    np.testing.assert_array_equal(found.colour, restored(tmp_path, restorer(), picture_without(given), "b.png").colour)
    given = picture(channels=1, alpha=True)
    np.testing.assert_array_equal(restored(tmp_path, restorer(1, 1), given, "c.png").alpha, given.alpha)


def picture_without(given: Picture) -> Picture:
    return Picture(given.colour, None, given.exif, given.icc)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2])
def test_16_bits_are_finer_than_8(tmp_path, channels, scale):
    by, deep = restorer(scale, channels), picture(channels=channels, dtype=np.uint16, alpha=True)
    found = restored(tmp_path, by, deep)
    assert found.colour.dtype == found.alpha.dtype == np.uint16
    eight = Picture(quantize(deep.colour / 257), None, deep.exif, None)
    coarse = restored(tmp_path, by, eight, "b.png").colour
    assert np.abs(found.colour / 257 - coarse).max() < 8 and len(np.unique(found.colour)) > 2 * len(np.unique(coarse))
    as_jpeg = restored(tmp_path, by, picture_without(deep), "c.bmp").colour
    assert np.abs(found.colour / 257 - as_jpeg).max() <= 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_enlarged_rows_are_those_of_the_whole(dtype, scale):
    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, (23, 11, 3), dtype=dtype)[::-1]
    whole = quantize(imresize(pixels if dtype == np.uint8 else pixels.astype(float), scale), dtype)
    found = [enlarged(pixels, top * scale, min(top + 5, 23) * scale, scale) for top in range(0, 23, 5)]
    np.testing.assert_array_equal(np.concatenate(found), whole)


def test_a_comparison_shows_both_side_by_side(tmp_path):
    given, comparison = picture(alpha=True), tmp_path / "a-compare.png"
    found = restored(tmp_path, restorer(), given, comparison=comparison)
    beside = read_picture(comparison)
    assert beside.colour.shape == (140, 360 + GAP, 3) and beside.alpha is None
    np.testing.assert_array_equal(beside.colour[:, :180], imresize(given.colour, 2))
    assert (beside.colour[:, 180 : 180 + GAP] == 255).all()
    np.testing.assert_array_equal(beside.colour[:, 180 + GAP :], found.colour)


def test_files_that_are_there_are_written_only_if_asked(tmp_path):
    (tmp_path / "a.png").write_text("before")
    with pytest.raises(UserError):
        restored(tmp_path, restorer(), picture(8, 8), comparison=tmp_path / "b.png")  # reads what was there
    assert (tmp_path / "a.png").read_text() == "before" and (tmp_path / "b.png").exists()
    assert restored(tmp_path, restorer(), picture(8, 8), overwrite=True).colour.shape == (16, 16, 3)


def test_classical_methods_are_given_the_whole_picture(tmp_path):
    given = picture()
    found = restored(tmp_path, Restorer(partial(upscale, scale=2), 3, 2, "channels", None), given)
    np.testing.assert_array_equal(found.colour, imresize(given.colour, 2))


def test_a_format_that_does_not_hold_it_is_told_before_anything_is_restored(tmp_path):
    with pytest.raises(UserError, match="JPEG holds no alpha"):
        restored(tmp_path, restorer(), picture(alpha=True), "a.jpg")
    with pytest.raises(UserError, match=r"a-compare.webp: 20008x\d+, but WEBP holds at most 16383x16383"):
        restored(tmp_path, restorer(), picture(2, 5000), "a.webp", comparison=tmp_path / "a-compare.webp")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import json, resource, sys
import numpy as np
import torch
from pathlib import Path
from PIL import Image
from nsr_cli.data.pictures import read_picture
from nsr_cli.engine.restoring import Restorer, restore_picture
from nsr_cli.models.tiled import Tiling

class Repeat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder, height = Path(sys.argv[1]), int(sys.argv[2])
Image.new("RGB", (1000, height), (10, 20, 30)).save(folder / "a.png", compress_level=1)
by = Restorer(Repeat(), 3, 2, "channels", Tiling(128, 4, 8))
restore_picture(by, read_picture(folder / "a.png"), folder / "b.png", None, True, lambda tiles: None)
print(json.dumps(peak()))
"""


def test_memory_beyond_the_picture_and_the_restored_one_does_not_grow(tmp_path):
    """At 20 megapixels; a copy in float32 would take 12 bytes more for each of them."""

    def megabytes(height: int) -> float:
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(height)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(OMP_NUM_THREADS="1"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pixels = 1000 * 4500 / 2**20
    grown = megabytes(5000) - megabytes(500)
    assert grown < pixels * (3 + 4 * 4) + 15  # read: 3 bytes a pixel; restored: 4, of 4 times as many
