"""nsr eval explain=true and save_images=true."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsr_cli.data import catalog
from nsr_cli.data.degrade import jpeg
from nsr_cli.data.images import read_image, write_png
from nsr_cli.ops.color import quantize, rgb_to_y
from nsr_cli.ops.metrics import psnr, ssim
from nsr_cli.ops.resize import imresize

HEAD = ["reads", "degraded", "restored", "measured", "border", "tile", "PSNR", "SSIM Gaussian", "SSIM 8x8"]


def picture(seed: int, height: int = 50, width: int = 58) -> np.ndarray:
    """(H, W, 3) uint8: smooth shapes with a little noise."""
    rng = np.random.default_rng(seed)
    smooth = imresize(rng.integers(0, 256, (-(-height // 6), -(-width // 6), 3)).astype(np.uint8), 6.0)
    return (smooth[:height, :width] + rng.normal(0, 3, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    for i, name in enumerate(("a", "b")):
        write_png(tmp_path / f"mine/{name}.png", picture(i))
    return tmp_path / "mine"


def record_of(tmp_path: Path) -> dict:
    (path,) = tmp_path.glob("results/records/*/*.json")
    return json.loads(path.read_text())


def table_of(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == HEAD
    return [dict(zip(HEAD, line, strict=True)) for line in lines[2:]]


def own_row(rows: list[dict[str, str]], score: dict, tile: str = "any") -> dict[str, str]:
    """The one row that is the record's own convention."""
    used = score["convention"]
    wanted = {
        "reads": used["given"],
        "degraded": "rounded" if used["rounded"] else "float",
        "restored": "rounded",
        "measured": used["given"] if used["measured"] == "as given" else used["measured"],
        "border": str(used["border"]),
        "tile": tile,
    }
    (row,) = [row for row in rows if wanted.items() <= row.items()]
    return row


def same_numbers(row: dict[str, str], score: dict) -> None:
    assert (row["PSNR"], row["SSIM Gaussian"]) == (f"{score['psnr']:.4f}", f"{score['ssim']:.5f}")
    if "ssim8" in score:
        assert row["SSIM 8x8"] == f"{score['ssim8']:.5f}"


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("scale=2", 4 * 2 * 2 * 3),  # RGB, Y, rounded Y, luma; degraded and restored rounded or not; three borders
        ("model=identity task=denoise", 3 * 2),  # degraded float, clipped, rounded; restored rounded or not
        ("model=identity task=dejpeg", 2 * 2),  # two borders; restored rounded or not
    ],
)
def test_explain_holds_the_records_own_row(nsr, tmp_path, folder, line, rows):
    result = nsr(f"eval benchmarks=[./mine] explain=true {line}")
    assert result.code == 0, result.err
    table, (score,) = table_of(result.out), record_of(tmp_path)["scores"].values()
    assert len(table) == rows
    assert len({tuple(row[name] for name in HEAD[:6]) for row in table}) == rows  # each convention once
    same_numbers(own_row(table, score), score)
    again = nsr(f"eval benchmarks=[./mine] explain=true {line}")
    assert table_of(again.out) == table


def test_explain_holds_every_convention_of_a_benchmark(nsr, tmp_path, folder, monkeypatch):
    """Set5 is scored by two: the printed column's, on luma, and that of RGB networks."""
    monkeypatch.setitem(catalog.DATASETS, "set5", replace(catalog.DATASETS["set5"], count=2))
    folder.rename(tmp_path / "Set5")
    result = nsr("eval benchmarks=[set5] explain=true data=.")
    assert result.code == 0, result.err
    scores = record_of(tmp_path)["scores"]
    assert list(scores) == ["luma", "y"]
    for score in scores.values():
        same_numbers(own_row(table_of(result.out), score), score)


def test_explain_of_a_gated_network_varies_the_tile(nsr, tmp_path, folder, tiny):
    line = f"sparsity=softmax benchmarks=[./mine] patch=24 {tiny}"
    assert nsr(f"ablate {line}").code == 0
    before = record_of(tmp_path)
    result = nsr(f"eval model=wdsr {line} explain=true")
    assert result.code == 0, result.err
    table, score = table_of(result.out), before["scores"]["rgb"]
    assert list(dict.fromkeys(row["tile"] for row in table)) == ["24", "48", "whole", "24, authors'"]
    same_numbers(own_row(table, score, tile="24"), score)
    assert record_of(tmp_path) == before  # to explain is not to score anew


# save_images


def images_of(tmp_path: Path) -> dict[str, Path]:
    return {path.name: path for path in tmp_path.glob("results/runs/*/images/*/*")}


def test_saved_images_are_the_restored_ones_and_give_the_records_scores(nsr, tmp_path, folder):
    result = nsr("eval benchmarks=[./mine] save_images=true")
    assert result.code == 0, result.err
    saved = images_of(tmp_path)
    assert sorted(saved) == ["a.png", "b.png"]
    assert str(saved["a.png"].parent) in result.out
    scores = record_of(tmp_path)["scores"]["rgb"]
    b = scores["convention"]["border"]
    for name, path in saved.items():
        truth, restored = read_image(folder / name), read_image(path)
        assert np.array_equal(restored, imresize(imresize(truth, 0.5), 2.0))
        pair = restored[b:-b, b:-b], truth[b:-b, b:-b]
        assert psnr(*pair) == scores["images"][name]["psnr"] and ssim(*pair) == scores["images"][name]["ssim"]


def test_saved_images_of_luma_and_of_grey_files(nsr, tmp_path, folder):
    write_png(folder / "grey.png", picture(5)[:, :, 0])
    assert nsr("eval benchmarks=[./mine] model=identity task=dejpeg quality=20 save_images=true").code == 0
    scores = record_of(tmp_path)["scores"]["luma"]["images"]
    for name, path in images_of(tmp_path).items():
        luma, restored = quantize(rgb_to_y(read_image(folder / name))), read_image(path)
        assert np.array_equal(restored, jpeg(luma, 20))
        assert psnr(restored, luma) == scores[name]["psnr"]
    assert len(images_of(tmp_path)) == 3


def test_a_repeat_writes_nothing_and_a_deleted_image_comes_back(nsr, tmp_path, folder):
    line = "eval benchmarks=[./mine] save_images=true"
    nsr(line)
    records = list(tmp_path.glob("results/records/*/*"))
    times = {path: path.stat().st_mtime_ns for path in [*images_of(tmp_path).values(), *records]}
    assert len(times) == 3
    assert nsr(line).code == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}
    gone = images_of(tmp_path)["b.png"]
    content = gone.read_bytes()
    gone.unlink()
    assert nsr(line).code == 0
    assert gone.read_bytes() == content


def test_images_of_a_run_that_was_scored_without_them(nsr, tmp_path, folder):
    nsr("eval benchmarks=[./mine]")
    assert images_of(tmp_path) == {}
    before = record_of(tmp_path)["scores"]
    assert nsr("eval benchmarks=[./mine] save_images=true").code == 0
    assert sorted(images_of(tmp_path)) == ["a.png", "b.png"]
    assert record_of(tmp_path)["scores"] == before


def test_images_that_differ_in_their_ending_alone_are_both_saved(nsr, tmp_path, folder):
    (folder / "b.png").unlink()
    Image.fromarray(picture(7)).save(folder / "a.bmp")
    assert nsr("eval benchmarks=[./mine] save_images=true").code == 0
    assert len(images_of(tmp_path)) == 2
