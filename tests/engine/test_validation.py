"""Validation during a training: what it asks of a convention, and what it keeps of its images."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nsr_cli.data.images import write_png
from nsr_cli.engine.validation import validation_of
from nsr_cli.tasks.sr import SuperResolution

TASK = SuperResolution(scale=2)
(CONVENTION,) = TASK.conventions("./x", ["rgb"], Path())
NETWORK = nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2))


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Four images of 600x500 pixels."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        write_png(path, np.random.default_rng(number).integers(0, 256, (500, 600, 3), dtype=np.uint8))
    return paths


def test_only_psnr_is_measured(paths):
    own = replace(CONVENTION, metrics=("ssim", "no_such_module.metric"))
    found = validation_of(paths, TASK, own, 48)(NETWORK)
    assert found["psnr"] == validation_of(paths, TASK, CONVENTION, 48)(NETWORK)["psnr"]


def test_only_the_centres_of_images_are_kept(paths):
    validation_of(paths[:1], TASK, CONVENTION, 48)  # what is imported and cached once
    tracemalloc.start()
    measure = validation_of(paths, TASK, CONVENTION, 48)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 4 * (192 * 192 + 96 * 96) * 3 * 1.5 < 4 * 600 * 500 * 3
    assert measure(NETWORK)["psnr"] > 0


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_with_the_older_weight_norm_is_validated(paths):
    """Published networks have it; its weight belongs to autograd's graph after a step, and could not be copied."""
    network = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 12, 1)), nn.PixelShuffle(2))
    network(torch.rand(1, 3, 4, 4)).sum().backward()
    assert validation_of(paths, TASK, CONVENTION, 48)(network)["psnr"] > 0
