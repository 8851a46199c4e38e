"""Checking what is here against the manifests, and the shipped manifests against the catalogue and real images."""

import shutil
import sys

import cv2
import numpy as np
import pytest
from toy import get

from nsr_cli.data import catalog, manifest
from nsr_cli.data.datasets import DATASETS, Source
from nsr_cli.data.manifest import check_dataset, read_manifest
from nsr_cli.errors import UserError


def test_check_names_each_image_that_differs(toy, images, root):
    toy()
    here = shutil.copytree(images, root / "Toy")
    (here / "a.png").unlink()
    changed = cv2.imread(str(here / "b.png"))
    changed[0, 0, 0] ^= 1
    cv2.imwrite(str(here / "b.png"), changed)
    cv2.imwrite(str(here / "c.png"), np.zeros((24, 30, 3), np.uint8))
    (here / "grey.png").write_bytes(b"no image")
    cv2.imwrite(str(here / "photo.jpg"), cv2.imread(str(here / "photo.jpg")))
    cv2.imwrite(str(here / "extra.png"), np.zeros((2, 2, 3), np.uint8))
    found = check_dataset("toy", root)
    assert found.missing == ("a.png",) and found.found == 5 and found.compared == "checksums"
    assert [problem for problem in found.problems if "grey.png" not in problem] == [
        "a.png: missing",
        "b.png: other pixels than the published image",
        "c.png: 24x30x3, expected 24x36x3",
        "extra.png: not in this data set",
        "photo.jpg: other bytes than the published image",
    ]
    assert any(problem.startswith("grey.png: ") for problem in found.problems)


def test_a_grey_image_replicated_to_colour_is_noticed(toy, images, root):
    """Set14's grey `bridge` as RGB moves the Set14 mean by 0.094 dB (PROTOCOLS.md, building blocks)."""
    toy()
    here = shutil.copytree(images, root / "Toy")
    cv2.imwrite(str(here / "grey.png"), cv2.imread(str(here / "grey.png"), cv2.IMREAD_COLOR))
    assert check_dataset("toy", root).problems == ("grey.png: 20x20x3, expected 20x20x1",)


def test_a_png_written_anew_is_still_the_same_image(toy, images, root):
    toy()
    here = shutil.copytree(images, root / "Toy")
    before = (here / "a.png").read_bytes()
    cv2.imwrite(str(here / "a.png"), cv2.imread(str(here / "a.png")), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert (here / "a.png").read_bytes() != before
    assert check_dataset("toy", root).problems == ()


@pytest.mark.parametrize(
    ("folder", "form"), [("Urban100", "img_{:03d}.png"), ("benchmark/Urban100/HR", "img{:03d}.png")]
)
def test_an_urban100_that_lacks_an_image_or_has_another_is_told_by_name(root, folder, form):
    """Copies in repositories have the first form of names, EDSR's archive the second."""
    (root / folder).mkdir(parents=True)
    paths = [root / folder / form.format(number) for number in range(1, 101)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((2, 3, 3), np.uint8))
    found = check_dataset("urban100", root)
    assert found.problems == () and found.compared == "names and count" and found.found == 100
    paths[6].rename(root / folder / "mine.png")
    found = check_dataset("urban100", root).problems
    assert found == (f"{paths[6].name}: missing", "mine.png: not in this data set")


def test_an_urban100_of_other_names_is_counted(root):
    (root / "Urban100").mkdir(parents=True)
    for number in range(1, 100):
        cv2.imwrite(str(root / f"Urban100/img_{number:03d}_SRF_4_HR.png"), np.zeros((2, 3, 3), np.uint8))
    assert check_dataset("urban100", root).problems == ("1 of 100 images: missing",)


def test_only_get_needs_pooch(toy, images, root, monkeypatch):
    """It is an extra of the package, not a requirement."""
    toy(Source("http://127.0.0.1:9/toy.zip"))
    for module in ("pooch", "requests"):
        monkeypatch.setitem(sys.modules, module, None)
    shutil.copytree(images, root / "Toy")
    assert check_dataset("toy", root).problems == ()
    assert get(root) == root / "Toy"
    shutil.rmtree(root)
    with pytest.raises(UserError, match=r"^`nsr data get` needs pooch, which is not installed: pip install pooch$"):
        get(root)


def test_check_of_what_is_not_here(tmp_path):
    with pytest.raises(UserError, match=r"^Set5: no folder "):
        check_dataset("set5", tmp_path)


def test_listing_says_where_or_how(toy, images, root):
    toy(Source("http://127.0.0.1:9/toy.zip"))
    rows = {row.name: row for row in catalog.listing(root)}
    assert list(rows) == list(DATASETS)
    assert rows["toy"].where == "not here: `nsr data get toy` fetches it"
    assert rows["manga109"].where == "not here: ask its authors at http://www.manga109.org"
    assert rows["t91_bsd200"].where == "not here: `nsr data get t91_bsd200` fetches it"
    assert rows["embedded_val"].where.endswith("skimage/data")
    (root / "Toy").mkdir(parents=True)
    shutil.copy(images / "a.png", root / "Toy")
    assert f"not here (1 of 5 in {root}/Toy)" in {row.name: row.where for row in catalog.listing(root)}["toy"]
    shutil.copytree(images, root / "Toy", dirs_exist_ok=True)
    assert {row.name: row.where for row in catalog.listing(root)}["toy"] == str(root / "Toy")


SHIPPED = sorted(path.stem for path in manifest.MANIFESTS.glob("*.json"))


def test_shipped_manifests_fit_the_catalog():
    assert "set5" in SHIPPED
    for name in SHIPPED:
        manifest, dataset = read_manifest(name), DATASETS[name]
        assert len(manifest) == dataset.count
        assert set(dataset.files) <= set(manifest)
        channels = {entry.channels for entry in manifest.values()}
        assert channels == ({1, 3} if name == "set14" else {3} if dataset.colour else {1})


def test_every_source_can_be_verified():
    """By a manifest, or by a published checksum of the archive."""
    for dataset in DATASETS.values():
        for source in dataset.sources:
            if not source.checksum and dataset.name not in SHIPPED:
                assert (dataset.name, source.url.rpartition("/")[2]) == ("urban100", "benchmark.tar")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_describe_the_real_images(nsr_data, name):
    assert check_dataset(name, nsr_data).problems == ()
