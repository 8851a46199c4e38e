"""Scores of images that are kept until the record is written: only what was written of these images counts."""

import json
import re

import pytest

from nsr_cli.runs.partial import PartialScores


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def kept(tmp_path, images) -> PartialScores:
    return PartialScores(tmp_path / "some.partial", "of the run", images)


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        ('"psnr": 3', '"psnr": 4'),  # a flipped bit, which is still JSON
        ('"psnr": 31.25', '"psnr": NaN'),
        ('"seconds"', '"secunds"'),
        ('"image": "a.png"', '"image": ["a.png"]'),
        ('"image": "a.png"', '"image": "b.png"'),
        (r"\{.*\}", "[" * 10**5),
    ],
)
def test_a_damaged_line_does_not_count(tmp_path, images, written, damaged):
    kept(tmp_path, images).add(images[0], {"y": {"psnr": 31.25}}, 2.0)
    again = kept(tmp_path, images)
    assert again.scores == {"a.png": {"y": {"psnr": 31.25}}} and again.seconds == 2 and again.left == images[1:]
    path = tmp_path / "some.partial"
    text = re.sub(written, damaged, path.read_text(), count=1)
    assert text != path.read_text()
    path.write_text(text)
    assert kept(tmp_path, images).scores == {} and kept(tmp_path, images).left == images


def test_a_line_of_another_run_or_another_image_does_not_count(tmp_path, images):
    kept(tmp_path, images).add(images[0], {"y": {"psnr": 31.25}}, 2.0)
    assert PartialScores(tmp_path / "some.partial", "of another", images).scores == {}
    images[0].write_bytes(b"other pixels")
    assert kept(tmp_path, images).scores == {}
    assert [json.loads(line)["image"] for line in (tmp_path / "some.partial").read_text().split("\n") if line]
