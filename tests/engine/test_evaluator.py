"""Scores by the conventions of the published tables (PROTOCOLS.md)."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nsr_cli.classical.bicubic import upscale
from nsr_cli.classical.identity import identity
from nsr_cli.data.catalog import image_paths
from nsr_cli.data.images import read_image, write_png
from nsr_cli.engine.evaluator import evaluate, restore, score
from nsr_cli.models.tiled import tiling_of
from nsr_cli.models.wdsr import WDSR
from nsr_cli.runs.score import means
from nsr_cli.tasks import Task
from nsr_cli.tasks.dejpeg import JpegArtifacts
from nsr_cli.tasks.denoise import Denoising
from nsr_cli.tasks.sr import SuperResolution


def test_which_convention_belongs_to_which_column():
    sr = SuperResolution(scale=2)

    def listed(task: Task, benchmark: str, *reads: str) -> list[tuple]:
        return [(c.name, c.border) for c in task.conventions(benchmark, list(reads), Path())]

    assert listed(sr, "set5", "luma", "rgb") == [("luma", 2), ("y", 2)]
    assert listed(sr, "set5", "rgb") == [("y", 2)]
    assert listed(sr, "div2k_val", "rgb") == [("rgb", 8)] and listed(sr, "div2k_val", "luma", "rgb") == [("rgb", 8)]
    assert listed(sr, "manga109", "luma", "rgb")[0] == ("y8", 2)
    assert listed(sr, "set14", "luma") == [("luma", 2)]
    assert listed(sr, "div2k_val", "luma") == [("rgb", 8)] and listed(sr, "manga109", "luma") == [("y8", 2)]
    assert listed(sr, "./my_folder", "rgb") == [("rgb", 8)]
    assert listed(Denoising(sigma=25), "set12", "rgb") == [("grey", 0)]
    assert listed(JpegArtifacts(quality=10), "live1", "rgb") == [("luma", 0)]


@pytest.mark.parametrize(
    ("scale", "luma", "y"),
    [
        # PROTOCOLS.md, bicubic on Set5: the luma convention of the printed column, and the RGB convention
        (2, "33.6615 .92988", "33.6734 .9303"),
        (3, "30.3924 .86821", "30.4033 .8689"),
        (4, "28.4211 .81040", "28.4290 .8111"),
    ],
)
def test_bicubic_on_set5_to_the_printed_digit(nsr_data, scale, luma, y):
    task, paths = SuperResolution(scale=scale), image_paths("set5", nsr_data)
    used = task.conventions("set5", ["luma", "rgb"], Path())
    found = [scores for _, scores, _ in evaluate(partial(upscale, scale=scale), paths, task, used)]
    for convention, expected in zip(used, (luma, y), strict=True):
        mean = means({str(i): scores[convention.name] for i, scores in enumerate(found)})
        psnr, ssim = expected.split()
        assert f"{mean['psnr']:.4f}" == psnr
        assert f"{mean['ssim']:.{len(ssim) - 1}f}"[1:] == ssim


def test_a_grey_file_is_its_own_luma_in_a_colour_set(tmp_path):
    """Set14's bridge is grey; repeating it to RGB and taking Y would shift it by over 1 dB."""
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    write_png(tmp_path / "grey.png", grey)
    task = SuperResolution(scale=2)
    used = task.conventions("set14", ["luma", "rgb"], Path())
    ((_, scores, _),) = evaluate(partial(upscale, scale=2), [tmp_path / "grey.png"], task, used)
    assert scores["luma"]["psnr"] == pytest.approx(scores["y"]["psnr"], abs=0.15)


@pytest.mark.parametrize(
    ("benchmark", "quality", "psnr", "ssim8", "ssim"),
    [
        # PROTOCOLS.md, the JPEG rows of Table 6
        ("classic5", 10, "27.8211", ".7800", ".7595"),
        ("classic5", 40, "32.4284", ".9011", ".8849"),
    ],
)
def test_jpeg_to_the_printed_digit(nsr_data, benchmark, quality, psnr, ssim8, ssim):
    task = JpegArtifacts(quality=quality)
    used = task.conventions(benchmark, ["rgb"], Path())
    paths = image_paths(benchmark, nsr_data)
    mean = means({p.name: s["luma"] for p, s, _ in evaluate(identity, paths, task, used)})
    assert (f"{mean['psnr']:.4f}", f"{mean['ssim8']:.4f}"[1:], f"{mean['ssim']:.4f}"[1:]) == (psnr, ssim8, ssim)


def test_noise_is_scored_unclipped(tmp_path):
    """The identity clips at the end only: PSNR of sigma 25 noise on mid-grey is 20 log10(255 / 25)."""
    write_png(tmp_path / "flat.png", np.full((200, 200), 128, np.uint8))
    task = Denoising(sigma=25)
    (convention,) = task.conventions("set12", ["rgb"], Path())
    ((_, scores, _),) = evaluate(identity, [tmp_path / "flat.png"], task, [convention])
    assert scores["grey"]["psnr"] == pytest.approx(20 * np.log10(255 / 25), abs=0.1)
    degraded, _ = task.prepare(Path("black"), np.zeros((50, 50), np.uint8), convention)
    assert degraded.min() < 0


@torch.no_grad()
def test_a_network_is_scored_in_tiles_and_a_small_image_whole():
    torch.manual_seed(0)
    network = WDSR(2, blocks=1, units=8, width=1, gate="softmax", sparsity_groups=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    restored = restore(network, image, 2, tiling_of(network, 48))
    direct = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
    assert restored.dtype == np.uint8 and restored.shape == (60, 80, 3)
    assert np.abs(restored - direct.clip(0, 1) * 255).max() <= 0.5 + 1e-3


def test_the_border_is_cut():
    (convention,) = SuperResolution(scale=2).conventions("div2k_val", ["rgb"], Path())
    truth = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    restored = truth.copy()
    restored[:8] = restored[-8:] = restored[:, :8] = restored[:, -8:] = 0
    assert score(restored, truth, truth, convention)["psnr"] == float("inf")
    restored[8, 8] ^= 1
    assert score(restored, truth, truth, convention)["psnr"] < 100


def test_means_are_of_images():
    assert means({"a": {"psnr": 20.0}, "b": {"psnr": 40.0}}) == {"psnr": 30.0}


def test_restored_images_come_with_the_scores(tmp_path):
    write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (33, 35, 3), dtype=np.uint8))
    task = SuperResolution(scale=2)
    used = task.conventions("div2k_val", ["rgb"], Path())
    ((path, _, restored),) = evaluate(partial(upscale, scale=2), [tmp_path / "a.png"], task, used)
    assert path.name == "a.png" and restored.shape == (32, 34, 3)
    assert read_image(path).shape == (33, 35, 3)
