"""The estimate of a sweep's time: what methods without a network cost, and what is counted."""

import numpy as np
import pytest
import yaml

from nsr_cli.commands import missing
from nsr_cli.data.images import write_png
from nsr_cli.runs import plan


@pytest.fixture
def images(tmp_path):
    """Two noise images of 60x50 pixels in a folder ``small``."""
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (50, 60), np.uint8)
        write_png(tmp_path / f"small/{number}.png", noise)
    return [tmp_path / f"small/{number}.png" for number in range(2)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("model=identity task=denoise", 0.25),
        ("model=bicubic task=sr scale=4", 0.25 + 7 / (12 * 15)),  # both crops are the whole image of 12x15 pixels
    ],
)
def test_a_classical_method_costs_what_it_takes_for_more_pixels(asked, images, line, expected):
    run, now = asked(f"eval {line} benchmarks=[./small]"), [0.0]

    def method(x):
        now[0] += 7 + 0.25 * x.shape[2] * x.shape[3]  # seconds: 7 for each image, however small
        return x.repeat_interleave(run.task.scale, 2).repeat_interleave(run.task.scale, 3)

    convention = run.conventions("./small")[0]
    assert plan.classical_seconds(run, method, images[0], convention, clock=lambda: now[0]) == pytest.approx(expected)


def test_the_plan_counts_missing_scores_and_their_pixels(nsr, tmp_path, images, monkeypatch):
    monkeypatch.setattr(plan, "classical_seconds", lambda *_: 0.02)
    monkeypatch.setattr(missing, "usable_cores", lambda: 1)  # in this process
    command = "nsr eval model=identity task=denoise benchmarks=[./small]"
    rows = [{"label": str(sigma), "command": f"{command} sigma={sigma}"} for sigma in (15, 25)]
    content = {"title": "Mine", "text": "A text.", "corner": "Noise", "rows": rows, "baseline": "15"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    made = nsr("table mine.yaml run=true")
    assert made.code == 0, made.err
    assert "2 scores to make: about 4:00 of one core" in made.out  # 2 sigmas x 2 images x 3000 pixels x 0.02 s

    next((tmp_path / "results").rglob("records/*/*.json")).unlink()
    assert "\n1 score to make: about 2:00 of one core\n" in "\n" + nsr("table mine.yaml run=true").out
