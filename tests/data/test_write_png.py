"""Writing PNG files: whole or not at all."""

import os

import numpy as np
import pytest
from pixels import GREY, RGB, refusal

from nsr_cli.data.images import read_image, write_png


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
