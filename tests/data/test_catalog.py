"""The named data sets: what is found where, and what each error says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nsr_cli.data import catalog
from nsr_cli.data.catalog import convention_names, image_paths, listing, lr_partner
from nsr_cli.data.datasets import DATASETS
from nsr_cli.data.datasets_file import CONVENTIONS
from nsr_cli.data.manifest import check_dataset
from nsr_cli.errors import UserError

# how many images each benchmark and training set has, as its authors publish it
COUNTS = {
    "set5": 5,
    "set14": 14,
    "b100": 100,
    "div2k_val_crops": 100,
    "bsds500_train": 200,
    "bsds500_test": 200,
    "bsds500": 400,
    "train400": 400,
    "t91": 91,
    "t91_bsd200": 291,
    "set12": 12,
    "bsd68": 68,
    "classic5": 5,
    "live1": 29,
}


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_every_data_set_is_well_formed():
    for name, dataset in DATASETS.items():
        assert name == dataset.name == name.lower()
        assert dataset.title and dataset.licence and dataset.source and dataset.role in ("train", "test")
        assert bool(dataset.folders) + bool(dataset.parts) + bool(dataset.package) == 1
        assert dataset.sources or dataset.ask or dataset.parts or dataset.package
        assert not dataset.files or len(dataset.files) == dataset.count
        assert not dataset.parts or sum(DATASETS[part].count for part in dataset.parts) == dataset.count
        assert set(dataset.conventions) == set(CONVENTIONS)
        assert all(set(names) <= set(CONVENTIONS[kind]) for kind, names in dataset.conventions.items())
        assert all(source.url.startswith(("https://", "http://")) for source in dataset.sources)
        assert all("\n" not in text for text in (dataset.title, dataset.licence, dataset.source, dataset.ask))


def test_bsds500_validation_is_never_trained_on():
    """It is B100 and contains BSD68."""
    assert not any("val" in folder for name in ("bsds500_train", "bsds500_test") for folder in DATASETS[name].folders)
    assert DATASETS["b100"].role == DATASETS["bsd68"].role == "test"


@pytest.mark.parametrize("name", COUNTS)
def test_real_images_are_found(nsr_data, name):
    paths = image_paths(name, nsr_data)
    assert len(paths) == COUNTS[name] and len(set(paths)) == len(paths)
    assert all(path.is_file() for path in paths)


def test_importing_the_catalog_is_light():
    code = (
        "import sys, nsr_cli.data.catalog as c; c.image_paths('embedded_val', '.');"
        "print([m for m in ('numpy', 'cv2', 'torch', 'skimage', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_images_are_sorted_and_other_files_left_out(tmp_path):
    touch(tmp_path / "Set5", "woman.png", "bird.PNG", "baby.png", "head.png", "butterfly.png")
    touch(tmp_path / "Set5", "._baby.png", "notes.txt", ".DS_Store")
    (tmp_path / "Set5" / "sub.png").mkdir()
    names = [path.name for path in image_paths("set5", tmp_path)]
    assert names == ["baby.png", "bird.PNG", "butterfly.png", "head.png", "woman.png"]


@pytest.mark.parametrize(
    ("benchmark", "rgb", "luma", "both"),
    [
        ("set5", "y", "luma", "luma y"),
        ("set14", "y", "luma", "luma y"),
        ("urban100", "y", "luma", "luma y"),
        ("b100", "y rgb", "luma", "luma y rgb"),
        ("manga109", "y y8", "y8", "y8 y"),
        ("div2k_val", "rgb", "rgb", "rgb"),
        ("./photographs", "rgb", "rgb", "rgb"),
    ],
)
def test_conventions_are_those_of_the_printed_columns(benchmark, rgb, luma, both):
    found = [convention_names(benchmark, reads, Path()) for reads in (["rgb"], ["luma"], ["luma", "rgb"])]
    assert found == [rgb.split(), luma.split(), both.split()]


def test_a_broken_link_is_named_rather_than_left_out(tmp_path):
    folder = touch(tmp_path / "mine", "a.png")
    (folder / "b.png").symlink_to("annex/b.png")
    (folder / "notes.txt").symlink_to("nothing")
    message = f"{folder}/b.png is a link to annex/b.png, which does not exist; mend or remove it"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        image_paths(str(folder), tmp_path)
    (folder / "c.png").symlink_to("c.png")
    with pytest.raises(UserError, match=r"b.png is a link to .* \(and 1 more such links\); mend or remove it$"):
        image_paths(str(folder), tmp_path)
    touch(folder / "annex", "b.png")
    (folder / "c.png").unlink()
    assert [path.name for path in image_paths(str(folder), tmp_path)] == ["a.png", "b.png"]
    touch(tmp_path / "Set5")
    (tmp_path / "Set5/baby.png").symlink_to("annex/baby.png")
    with pytest.raises(UserError, match=r"Set5/baby.png is a link to annex/baby.png, which does not exist; "):
        image_paths("set5", tmp_path)


def test_a_broken_link_beside_the_images_of_a_data_set_does_not_matter(tmp_path):
    """div2k_val is 0801.png to 0900.png, whatever else lies in its folder."""
    folder = touch(tmp_path / "DIV2K_valid_HR", *(f"{i:04d}.png" for i in range(801, 901)))
    (folder / "other.png").symlink_to("nothing")
    assert len(image_paths("div2k_val", tmp_path)) == 100
    (folder / "0850.png").unlink()
    (folder / "0850.png").symlink_to("nothing")
    with pytest.raises(UserError, match=r"0850.png is a link to nothing, which does not exist"):
        image_paths("div2k_val", tmp_path)
    assert listing(tmp_path)[1].where.startswith(f"not here (99 of 100 in {folder})")
    assert any(problem.startswith("0850.png: cannot read") for problem in check_dataset("div2k_val", tmp_path).problems)


def test_subfolders_that_hold_the_images_are_named(tmp_path):
    touch(tmp_path / "mine/HR", "a.png", "b.png")
    touch(tmp_path / "mine/LR/X2", "a.png")
    touch(tmp_path / "mine/.thumbnails", "a.png")
    touch(tmp_path / "mine/notes", "a.txt")
    message = f"no images in {tmp_path}/mine; its subfolders hold some, name one of them: HR/ (2), LR/X2/ (1)"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        image_paths(f"{tmp_path}/mine", tmp_path)
    touch(tmp_path / "Set5/image_SRF_2", "a.png")
    with pytest.raises(
        UserError, match=r"^Set5: no images in .*/Set5; its subfolders hold some, .*: image_SRF_2/ \(1\)$"
    ):
        image_paths("set5", tmp_path)


def test_a_name_that_is_not_utf8(tmp_path):
    touch(tmp_path / "mine", os.fsdecode(b"caf\xe9.png"))
    (path,) = image_paths(f"{tmp_path}/mine", tmp_path)
    assert os.fsencode(path.name) == b"caf\xe9.png"


@pytest.mark.parametrize("folder", ["Set5", "set5", "Set5/HR", "benchmark/Set5/HR", "Set5/original"])
def test_layouts_of_other_toolkits_are_found(tmp_path, folder):
    touch(tmp_path / folder, *(f"{i}.png" for i in range(5)))
    touch(tmp_path / "Set5" / "LR_bicubic", "small.png")
    assert image_paths("set5", tmp_path)[0].parent == tmp_path / folder


def test_first_folder_that_has_images_is_taken(tmp_path):
    touch(tmp_path / "B100")
    touch(tmp_path / "BSDS100", *(f"{i}.png" for i in range(100)))
    assert image_paths("b100", tmp_path)[0].parent == tmp_path / "BSDS100"


def test_div2k_in_one_folder_is_told_apart_by_number(tmp_path):
    """EDSR's layout keeps 0001 to 0900 in DIV2K/DIV2K_train_HR."""
    touch(tmp_path / "DIV2K" / "DIV2K_train_HR", *(f"{i:04d}.png" for i in range(1, 901)))
    assert [path.name for path in image_paths("div2k_train", tmp_path)][::799] == ["0001.png", "0800.png"]
    assert [path.name for path in image_paths("div2k_val", tmp_path)][::99] == ["0801.png", "0900.png"]


def test_div2k_training_images_alone_are_no_validation_set(tmp_path):
    touch(tmp_path / "DIV2K_train_HR", "0001.png")
    with pytest.raises(UserError, match=r"no folder .*DIV2K_valid_HR; `nsr data get div2k_val` fetches it"):
        image_paths("div2k_val", tmp_path)


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    touch(tmp_path / "photos", "b.jpg", "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("./photos", str(tmp_path / "photos"), "~/photos", "photos/"):
        assert [path.name for path in image_paths(name, Path("elsewhere"))] == ["a.png", "b.jpg"]
    with pytest.raises(UserError, match=r"no data set 'photos' \(did you mean './photos'\?\)"):
        image_paths("photos", tmp_path)
    with pytest.raises(UserError, match=r"^no folder .*/nothing; give a folder of images, or one of: div2k_train, "):
        image_paths("./nothing", tmp_path)
    touch(tmp_path / "empty", "readme.txt")
    with pytest.raises(UserError, match=r"^no images in .*/empty; image files end in \.png, "):
        image_paths("./empty", tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Set5", r"^no data set 'Set5' \(did you mean 'set5'\?\); there are: div2k_train, div2k_val, "),
        ("urban10", r"did you mean 'urban100'\?"),
        ("qqq", r"^no data set 'qqq'; there are: "),
    ],
)
def test_unknown_names(tmp_path, name, text):
    with pytest.raises(UserError, match=text):
        image_paths(name, tmp_path)


def test_what_is_missing_is_said_in_one_line(tmp_path):
    def error(name: str) -> str:
        with pytest.raises(UserError) as raised:
            image_paths(name, tmp_path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert error("set5") == f"Set5: no folder {tmp_path}/Set5; `nsr data get set5` fetches it"
    assert error("manga109").endswith("Manga109; ask its authors at http://www.manga109.org")
    assert "BSDS500 training images: no folder" in error("t91_bsd200") or "T91: no folder" in error("t91_bsd200")
    touch(tmp_path / "Set5")
    assert error("set5") == f"Set5: no images in {tmp_path}/Set5; `nsr data get set5` fetches it"
    touch(tmp_path / "Set5", "baby.png", "bird.png")
    assert error("set5") == f"Set5: 2 images in {tmp_path}/Set5, expected 5; `nsr data check set5` says which differ"
    touch(tmp_path / "Set5", *(f"{i}.png" for i in range(4)))
    assert "6 images in" in error("set5")


def test_photographs_of_scikit_image(tmp_path):
    train, val = image_paths("embedded_train", tmp_path), image_paths("embedded_val", tmp_path)
    assert [path.name for path in val] == ["chelsea.png", "rocket.jpg"]
    assert len(train) == 7 and not set(train) & set(val)


def test_a_scikit_image_without_a_photograph_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "skimage", "__init__.py")
    touch(tmp_path / "skimage" / "data", "chelsea.png")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    with pytest.raises(UserError, match=r"this scikit-image lacks rocket\.jpg in "):
        image_paths("embedded_val", tmp_path)
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"scikit-image is not installed; pip install scikit-image"):
        image_paths("embedded_val", tmp_path)


def test_official_low_resolution_partner(tmp_path):
    truth = touch(tmp_path / "DIV2K_train_HR", "0001.png") / "0001.png"
    assert lr_partner(truth, 2) is None
    partner = touch(tmp_path / "DIV2K_train_LR_bicubic" / "X2", "0001x2.png") / "0001x2.png"
    assert lr_partner(truth, 2) == partner
    assert lr_partner(truth, 3) is None
    assert lr_partner(touch(tmp_path / "Set5", "baby.png") / "baby.png", 2) is None
