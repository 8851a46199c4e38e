"""What a training reads, from memory and from caches: the truths and what the task makes of them."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from nsr_cli.data import degrade, examples
from nsr_cli.data.examples import load_examples
from nsr_cli.data.images import read_image, write_png
from nsr_cli.data.sampler import Example
from nsr_cli.errors import UserError
from nsr_cli.ops.resize import imresize
from nsr_cli.tasks import Task
from nsr_cli.tasks.dejpeg import JpegArtifacts
from nsr_cli.tasks.denoise import Denoising
from nsr_cli.tasks.sr import SuperResolution

RNG = np.random.default_rng(0)


@pytest.fixture
def photographs(tmp_path) -> list[Path]:
    """Colour, grey, and sides that no scale divides."""
    for name, shape in {"0001": (101, 121, 3), "0002": (83, 77), "0003": (61, 62, 3)}.items():
        write_png(tmp_path / f"DIV2K_train_HR/{name}.png", RNG.integers(0, 256, shape, np.uint8))
    return sorted((tmp_path / "DIV2K_train_HR").iterdir())


@pytest.fixture
def load(tmp_path, photographs):
    def call(task: Task, form: str = "rgb", said: list[str] | None = None) -> list[Example]:
        say = (lambda text: None) if said is None else said.append
        return load_examples(photographs, task, form, 20, tmp_path / "cache", "set", say)

    return call


def always_cached(monkeypatch) -> None:
    monkeypatch.setattr(examples, "SMALL", 0)


@pytest.mark.parametrize(
    ("task", "form", "built"),
    [
        (SuperResolution(scale=3), "rgb", ["set-rgb", "set-rgb-x3"]),
        (SuperResolution(scale=2), "luma", ["set-luma", "set-luma-x2"]),
        (Denoising(sigma=25), "grey", ["set-grey"]),
        (JpegArtifacts(quality=10), "luma", ["set-luma", "set-luma-q10"]),
    ],
)
def test_a_cache_and_memory_hold_the_same(tmp_path, photographs, load, monkeypatch, task, form, built):
    said = []
    small = load(task, form, said)
    assert not (tmp_path / "cache").exists() and not said
    always_cached(monkeypatch)
    first, again = load(task, form, said), load(task, form)
    assert sorted(path.name[:-9] for path in (tmp_path / "cache").iterdir()) == built
    assert sum("building" in line for line in said) == len(built)
    scale = task.scale
    for path, *found in zip(photographs, small, first, again, strict=True):
        truth = {"rgb": degrade.as_rgb, "luma": degrade.as_luma, "grey": degrade.as_grey}[form](read_image(path))
        truth = degraded = truth[: len(truth) // scale * scale, : truth.shape[1] // scale * scale]
        if task.name == "sr":
            degraded = imresize(truth, 1 / scale)
        elif task.name == "dejpeg":
            degraded = degrade.jpeg(truth, 10)
        for example in found:
            assert example.name == path.name
            assert np.array_equal(example.truth, truth) and np.array_equal(example.degraded, degraded)


def test_scales_share_the_truths(tmp_path, load, monkeypatch):
    always_cached(monkeypatch)
    for scale in (2, 3):
        load(SuperResolution(scale=scale))
    assert sorted(path.name[:-9] for path in (tmp_path / "cache").iterdir()) == ["set-rgb", "set-rgb-x2", "set-rgb-x3"]


def test_official_low_resolution_images_are_used_and_may_come_later(tmp_path, photographs, load, monkeypatch):
    always_cached(monkeypatch)
    load(SuperResolution(scale=2))
    for path in photographs:
        height, width = (side // 2 for side in read_image(path).shape[:2])
        write_png(tmp_path / f"DIV2K_train_LR_bicubic/X2/{path.stem}x2.png", np.full((height, width, 3), 7, np.uint8))
    for example in load(SuperResolution(scale=2)):
        assert (example.degraded == 7).all()


def test_a_name_that_is_not_utf8_is_cached_too(photographs, load, monkeypatch):
    always_cached(monkeypatch)
    strange = photographs[0].rename(photographs[0].with_name(os.fsdecode(b"caf\xe9.png")))
    photographs[0] = strange
    names = [example.name for _ in range(2) for example in load(SuperResolution(scale=2))]
    assert names == 2 * [path.name for path in photographs]
    assert degrade.evaluation_noise(strange, 25).standard_normal() != 0


@pytest.mark.parametrize("cached", [False, True])
def test_an_image_too_small_is_named_before_anything_is_written(tmp_path, photographs, load, monkeypatch, cached):
    if cached:
        always_cached(monkeypatch)
    for size, scale in itertools.product([(1, 60), (60, 39)], (2, 3)):
        write_png(photographs[1], np.zeros((*size, 3), np.uint8))
        with pytest.raises(UserError, match=r"^0002.png is \d+x\d+ once degraded: smaller than a patch of 20x20"):
            load(SuperResolution(scale=scale))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("cached", [False, True])
def test_an_image_damaged_behind_its_header_is_named(photographs, load, monkeypatch, cached):
    if cached:
        always_cached(monkeypatch)
    photographs[2].write_bytes(photographs[2].read_bytes()[:-300])
    with pytest.raises(UserError, match=r"^cannot read .*/0003.png: the file is truncated"):
        load(Denoising(sigma=25), "grey")


@dataclass(frozen=True)
class Own(Task):
    """A task of a user's own, which makes of a truth what a test says."""

    level: int = 0
    name: ClassVar[str] = "own"
    fixed: ClassVar[str] = "own"

    def degraded(self, path, truth):
        return MADE["by"](truth)


MADE = {}


@pytest.mark.parametrize(
    "make", [lambda image: image / 2, lambda image: image[1:], lambda image: np.stack([image] * 3, 2)]
)
def test_a_degraded_image_of_another_kind_or_size_is_refused(load, monkeypatch, make):
    """Once patches of such an image were memory that nobody had written to, and a network was trained on them."""
    monkeypatch.setitem(MADE, "by", make)
    with pytest.raises(UserError, match=r"/0001.png: task=own: its degraded image is .*; expected uint8 of shape \("):
        load(Own(), "luma")


def test_a_task_of_ones_own_shares_no_cache_with_its_other_levels(load, monkeypatch):
    """Whose name of caches it may not tell; nor with an earlier state of its code."""
    always_cached(monkeypatch)
    monkeypatch.setitem(MADE, "by", lambda image: image)
    before = load(Own(), "luma")
    monkeypatch.setitem(MADE, "by", lambda image: 255 - image)
    assert np.array_equal(load(Own(), "luma")[0].degraded, before[0].degraded)  # from the cache
    assert np.array_equal(load(Own(level=1), "luma")[0].degraded, 255 - before[0].degraded)
    monkeypatch.setattr(examples, "source_digests", lambda names: {"own": "changed"})
    assert np.array_equal(load(Own(), "luma")[0].degraded, 255 - before[0].degraded)
