"""The progress of scoring."""

import numpy as np

from nsr_cli.data.images import write_png
from nsr_cli.runs import score


def test_the_time_left_is_that_of_the_pixels_left(tmp_path, monkeypatch, capsys):
    paths = [tmp_path / f"{side}.png" for side in (10, 20, 40)]
    for path in paths:
        write_png(path, np.zeros((int(path.stem), int(path.stem)), np.uint8))
    now = [0.0]
    monkeypatch.setattr(score.time, "monotonic", lambda: now[0])

    def scored():
        for path in paths:
            now[0] += 70 * int(path.stem) ** 2 / 100  # 70 seconds for 100 pixels
            yield path

    assert list(score.with_progress(scored(), "wnnm on mine", paths)) == paths
    assert capsys.readouterr().out.splitlines() == [
        "wnnm on mine: 1 of 3 images, 23:20 left",
        "wnnm on mine: 2 of 3 images, 18:40 left",
    ]
