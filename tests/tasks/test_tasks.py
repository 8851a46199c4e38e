"""The three tasks: what of an image they give a method, and how their benchmarks are scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsr_cli.data.degrade import as_grey, as_luma, as_rgb
from nsr_cli.engine.conventions import Convention, convention_of
from nsr_cli.errors import UserError
from nsr_cli.ops.color import rgb_to_y
from nsr_cli.tasks import Task, task_of
from nsr_cli.tasks.dejpeg import JpegArtifacts
from nsr_cli.tasks.denoise import Denoising
from nsr_cli.tasks.sr import SuperResolution

TASKS = [SuperResolution(scale=3), Denoising(sigma=15), JpegArtifacts(quality=20)]
IMAGE = np.random.default_rng(0).integers(0, 256, (61, 50, 3), dtype=np.uint8)
PATH = Path("picture.png")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_is_made_from_its_name_class_and_arguments(task):
    module = f"{type(task).__module__}.{type(task).__qualname__}"
    assert task_of({"name": task.name, "target": module, **vars(task)}) == task
    with pytest.raises(UserError, match=f"^task={task.name}: .* does not take its arguments"):
        task_of({"name": task.name, "target": module, "nothing": 1})
    for target, words in ((f"{module}s", "expected a class"), ("builtins.dict", "is no task of that name")):
        with pytest.raises(UserError, match=words):
            task_of({"name": task.name, "target": target})


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("reads", [["rgb"], ["luma"], ["luma", "rgb"]])
def test_every_convention_gives_what_it_says(task, reads):
    if task.name != "sr":
        reads = {"denoise": ["grey"], "dejpeg": ["luma"]}[task.name]
    named = task.conventions("./own", reads, Path())
    assert named[0].metrics[0] == "psnr" and len({convention.name for convention in named}) == len(named)
    for convention in [*named, *task.every_convention(reads)]:
        degraded, truth = task.prepare(PATH, IMAGE, convention)
        expected = {"rgb": as_rgb, "luma": as_luma, "grey": as_grey}[convention.given](IMAGE)
        cut = [side // task.scale * task.scale for side in expected.shape[:2]]
        assert np.array_equal(truth, expected[: cut[0], : cut[1]]) and truth.dtype == np.uint8
        assert degraded.shape[:2] == tuple(side // task.scale for side in cut) and degraded.ndim == truth.ndim
        assert (degraded.dtype == np.uint8) == convention.rounded
        assert convention_of(convention.spelled_out()) == convention
        if convention.clipped:
            assert degraded.min() >= 0 and degraded.max() <= 255


def test_the_conventions_of_benchmarks_are_those_of_their_papers():
    """DESIGN.md, section 5: Y with border = scale; DIV2K in RGB with border = scale + 6; Manga109's rounded Y."""

    def names(benchmark: str, *reads: str) -> list[str]:
        return [c.name for c in SuperResolution(scale=4).conventions(benchmark, reads, Path())]

    assert names("set5", "rgb") == names("urban100", "rgb") == ["y"] and names("b100", "rgb") == ["y", "rgb"]
    assert names("manga109", "rgb") == ["y", "y8"] and names("set5", "luma", "rgb") == ["luma", "y"]
    assert names("div2k_val", "rgb") == names("./own", "rgb") == names("div2k_val", "luma", "rgb") == ["rgb"]
    by_name = {c.name: c for b in ("set5", "b100") for c in SuperResolution(scale=4).conventions(b, ["rgb"], Path())}
    assert (by_name["y"].border, by_name["rgb"].border) == (4, 10)
    (grey,) = Denoising(sigma=25).conventions("set12", ["grey"], Path())
    assert (grey.border, grey.rounded, grey.clipped, grey.output_rounded) == (0, False, False, True)
    (luma,) = JpegArtifacts(quality=10).conventions("live1", ["luma"], Path())
    assert luma.metrics == ("psnr", "ssim8", "ssim") and luma.border == 0


def test_a_convention_in_words():
    luma = Convention("luma", "luma", rounded=False, measured="as given", border=2)
    assert luma.in_words(2) == (
        "reads luma, degraded image not rounded, restored image rounded; "
        "measured in luma, border = scale; SSIM Gaussian"
    )
    rgb = Convention("rgb", "rgb", rounded=True, measured="rgb", border=8, metrics=("psnr", "ssim8", "ssim"))
    assert rgb.in_words(2).endswith("measured in RGB, border = scale + 6; SSIM 8x8 and Gaussian")
    assert "no border cut" in replace(rgb, border=0).in_words(None)
    own = Convention("mine", "grey", rounded=False, measured="as given", border=4, metrics=("psnr",))
    assert replace(own, output_rounded=False).in_words(None) == (
        "reads grey, degraded image not rounded, restored image not rounded; measured in grey, border of 4 pixels"
    )
    assert own.in_words(2).endswith(", border of 4 pixels") and own.in_words(4).endswith(", border = scale")


def test_noise_is_fixed_by_the_files_name_and_sigma():
    convention = Denoising(sigma=25).conventions("set12", ["grey"], Path())[0]
    first, truth = Denoising(sigma=25).prepare(PATH, IMAGE, convention)
    assert np.array_equal(first, Denoising(sigma=25).prepare(Path("elsewhere/picture.jpg"), IMAGE, convention)[0])
    assert not np.array_equal(first, Denoising(sigma=25).prepare(Path("other.png"), IMAGE, convention)[0])
    assert abs((first - truth).std() - 25) < 1.5 and Denoising(sigma=25).fixed == ""


def test_a_stronger_compression_is_further_from_the_truth():
    errors = []
    for quality in (10, 40, 90):
        task = JpegArtifacts(quality=quality)
        degraded, truth = task.prepare(PATH, IMAGE, task.conventions("live1", ["luma"], Path())[0])
        assert np.array_equal(degraded, task.degraded(PATH, truth)) and task.fixed == f"q{quality}"
        assert np.abs(truth - rgb_to_y(IMAGE)).max() <= 0.5
        errors.append(np.abs(degraded.astype(float) - truth).mean())
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]


def test_what_networks_are_given():
    sr = SuperResolution(scale=2)
    assert (sr.channels_given(["rgb"]), sr.channels_given(["luma"]), sr.form(["luma"])) == (3, 1, "luma")
    assert sr.luma_only(["luma"]) and not sr.luma_only(["luma", "rgb"]) and not sr.luma_only(["rgb"])
    assert Denoising().form(["rgb"]) == "grey" and Denoising().channels_given(["rgb"]) == 1
    with pytest.raises(NotImplementedError):
        Task().conventions("", [], Path())
