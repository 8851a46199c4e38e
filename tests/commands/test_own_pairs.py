"""Low-resolution images of one's own: what is trained on them, and scored on them."""

import cv2
import numpy as np
import pytest
from kept import records

from nsr_cli.runs.record import read_record

SMALL = "blocks=1 units=4 width=1 sparsity=none steps=3 batch=2 patch=20 threads=1"


@pytest.fixture
def folders(tmp_path, photographs):
    """``photographs``; ``bicubic``, what nsr makes of them at x2; ``dark``, the same at half the brightness."""
    from nsr_cli.data.degrade import downscale
    from nsr_cli.data.images import read_image, write_png

    for name in ("a.png", "b.png"):
        small = downscale(read_image(photographs / name), 2)
        write_png(tmp_path / "bicubic" / name, small)
        write_png(tmp_path / "dark" / name.replace(".", "x2."), small // 2)
    return tmp_path


def scores(folder) -> dict[str, float]:
    found = [read_record(path) for path in records(folder)]
    return {record.benchmark: record.scores["rgb"].means["psnr"] for record in found}


def losses(folder) -> set[str]:
    return {path.read_text().split('"loss"')[1] for path in (folder / "results/runs").glob("*/stats.jsonl")}


def photographs(folders, way: str, lr: str) -> str:
    """What names the photographs with these low-resolution images: a pair, or an entry of datasets.yaml."""
    if way == "a pair":
        return f"{{hr: ./photographs, lr: ./{lr}}}"
    (folders / "data").mkdir(exist_ok=True)
    entry = f"mine: {{folders: ../photographs, role: train, low_resolution: ../{lr}}}"
    (folders / "data/datasets.yaml").write_text(entry)
    return "mine"


@pytest.mark.parametrize("way", ["a pair", "an entry"])
def test_training_reads_them(nsr, folders, way):
    first = nsr(f"train {SMALL} train=./photographs benchmarks=[./photographs]")
    assert first.code == 0, first.err
    for lr in ("bicubic", "dark"):
        train = f"'train={photographs(folders, way, lr)}'"
        result = nsr(f"train {SMALL} {train} benchmarks=[./photographs]")
        assert result.code == 0, result.err
    runs = list((folders / "results/runs").glob("*/weights.pt"))
    assert len(runs) == 3  # signed
    psnrs = sorted({read_record(path).scores["rgb"].means["psnr"] for path in records(folders)})
    assert len(psnrs) == 2  # bicubic images of one's own train as those made here do, and dark ones do not
    assert "training wdsr" not in nsr(f"train {SMALL} {train} benchmarks=[./photographs]").out


@pytest.mark.parametrize("way", ["a pair", "an entry"])
def test_scoring_reads_them(nsr, folders, way):
    assert nsr("eval benchmarks=[./photographs]").code == 0
    (usual,) = scores(folders).values()
    for lr in ("bicubic", "dark"):
        result = nsr(f"eval 'benchmarks=[{photographs(folders, way, lr)}]' explain=true")
        assert result.code == 0, result.err
    found = scores(folders)
    assert len(found) == 3  # each has a record of its own
    assert sorted(found.values())[1:] == [usual, usual] and min(found.values()) < usual - 3


def test_what_does_not_fit_together_is_named_before_anything_is_trained(nsr, folders):
    cv2.imwrite(str(folders / "bicubic/c.png"), np.zeros((9, 9), np.uint8))
    (folders / "dark/bx2.png").unlink()
    for line, words in (
        ("'train={hr: ./photographs, lr: ./dark}'", "b.png: no low-resolution partner at 1/2 in"),
        ("'train={hr: ./photographs, lr: ./bicubic}'", "c.png in "),
        ("train=./photographs 'benchmarks=[{hr: ./photographs, lr: ./dark}]'", "b.png: no low-resolution partner"),
        ("'train={hr: ./photographs}'", "a pair of folders is {hr: FOLDER, lr: FOLDER}; found the keys hr\n"),
        ("task=denoise 'train={hr: ./photographs, lr: ./dark}'", "{hr: ./photographs, lr: ./dark}: low-resolution im"),
    ):
        result = nsr(f"train {SMALL} benchmarks=[./photographs] {line}")
        assert result.code == 2 and result.err.startswith(f"nsr train: {words}"), result.err
        assert result.err.count("\n") == 1 and not list(folders.glob("results/runs/*/*.pt"))
