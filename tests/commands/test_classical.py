"""Classical methods from the command line: their columns, what they say meanwhile, what they refuse."""

import cv2
import numpy as np
import pytest
from kept import records

from nsr_cli.data.images import write_png
from nsr_cli.engine import evaluator
from nsr_cli.runs import score
from nsr_cli.runs.record import read_record


@pytest.fixture
def small(tmp_path):
    """Three grey images in a folder ``small``."""
    for number in range(3):
        waves = 120 + 60 * np.sin(np.arange(32) / (2 + number))
        write_png(tmp_path / f"small/{number}.png", np.tile(waves, (30, 1)).astype(np.uint8))
    return "benchmarks=[./small]"


@pytest.mark.parametrize("line", ["model=wnnm task=denoise sigma=50", "model=sadct task=dejpeg quality=10"])
def test_they_are_better_than_nothing_and_say_how_far_they_are(nsr, tmp_path, small, monkeypatch, line):
    monkeypatch.setattr(score, "SAY_EVERY", -1)
    result = nsr(f"eval {line} {small}")
    assert result.code == 0, result.err
    name = line.partition(" ")[0].partition("=")[2]
    assert f"{name} on ./small: 1 of 3 images, 0:0" in result.out and "2 of 3 images" in result.out
    assert "3 of 3" not in result.out
    assert nsr(f"eval model=identity {line.partition(' ')[2]} {small}").code == 0
    found = {
        r.spec["model"]["name"]: next(iter(r.scores.values())).means["psnr"]
        for r in map(read_record, records(tmp_path))
    }
    assert found[name] > found["identity"] + 0.3


def test_a_colour_image_and_one_that_is_too_small_are_named(nsr, tmp_path, small):
    colour = "task.channels=3 model.reads=[rgb] task=sr model.tasks=[sr]"
    result = nsr(f"eval model=wnnm {colour} {small}")
    assert result.code == 2 and result.err.count("\n") == 1
    assert result.err.startswith(
        "nsr eval: small/0.png: WNNM restores grey images (B, 1, H, W); these are (1, 3, 15, 16)"
    )
    cv2.imwrite(str(tmp_path / "small/0.png"), np.zeros((6, 30), np.uint8))
    result = nsr(f"eval model=wnnm task=denoise {small}")
    assert result.code == 2 and result.err.startswith("nsr eval: small/0.png: ") and result.err.count("\n") == 1


@pytest.mark.parametrize("line", ["model=sadct task=denoise", "model=wnnm task=dejpeg", "model=sadct task=sr"])
def test_each_is_for_its_task(nsr, line):
    result = nsr(f"eval {line}")
    assert result.code == 2 and f"model={line[6:11].strip()} is not for it; it does: " in result.err


def test_scores_are_kept_image_by_image(nsr, tmp_path, small, monkeypatch):
    line = f"eval model=wnnm task=denoise sigma=50 threads=1 {small}"
    assert nsr(line).code == 0
    (path,) = records(tmp_path)
    whole = read_record(path)
    path.unlink()
    scored = []

    def evaluate(method, paths, *how):
        for item in evaluator.evaluate(method, paths, *how):
            scored.append(item[0].name)
            yield item
            if len(scored) == 2:
                raise RuntimeError("killed")

    monkeypatch.setattr(score, "evaluate", evaluate)
    assert nsr(line).code == 1 and not path.exists()
    with open(next((tmp_path / "results/runs").glob("*/*.partial")), "a") as file:
        file.write('{"image": "2.png", "key"')  # what a kill left of a line
    result = nsr(line)
    assert result.code == 0 and "wnnm on ./small: 2 of 3 images were scored before" in result.out
    assert scored == ["0.png", "1.png", "2.png"] and read_record(path).scores == whole.scores
    assert list((tmp_path / "results/runs").glob("*/*.partial")) == []
