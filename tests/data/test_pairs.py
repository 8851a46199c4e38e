"""Pairs of folders: who is whose partner, and what does not fit together."""

import re
from pathlib import Path

import numpy as np
import pytest

from nsr_cli.data.catalog import image_paths
from nsr_cli.data.identity import data_name
from nsr_cli.data.images import write_png
from nsr_cli.data.pairs import find_partners, low_resolution_paths, pair_text
from nsr_cli.errors import UserError


def fill(folder: Path, *names: str, shape: tuple[int, ...] = (8, 10, 3)) -> list[Path]:
    for name in names:
        write_png(folder / name, np.full(shape, len(name), np.uint8))
    return [folder / name for name in names]


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("0801.png", "0801.png"),
        ("0801.png", "0801x2.png"),  # DIV2K
        ("0801.png", "0801x2m.png"),  # DIV2K, mild
        ("baby.png", "baby_x2.png"),
        ("baby.png", "baby-X2.png"),
        ("baby.png", "baby_LR.png"),
        ("baby.png", "baby_LRBI_x2.png"),
        ("baby_HR_x2.png", "baby_LRBI_x2.png"),  # RCAN
        ("img_001_SRF_2_HR.png", "img_001_SRF_2_LR.png"),  # SelfExSR
        ("a.b.jpg.png", "a.b.jpgx2.png"),
        ("x2.png", "x2.png"),
    ],
)
def test_partners_are_known_by_the_usual_names(tmp_path, high, low):
    paths = [*fill(tmp_path / "hr", high), *fill(tmp_path / "hr", "other.png")]
    fill(tmp_path / "lr", low, "other.png", shape=(4, 5, 3))
    assert names(find_partners(paths, tmp_path / "lr", 2)) == [low, "other.png"]


def test_the_partners_of_several_scales_may_share_a_folder(tmp_path):
    paths = fill(tmp_path / "hr", "a.png", "b.png", shape=(12, 13))
    for scale in (2, 3, 4):
        fill(tmp_path / "lr", f"ax{scale}.png", f"bx{scale}.png", shape=(12 // scale, 13 // scale))
    for scale in (2, 3, 4):
        assert names(find_partners(paths, tmp_path / "lr", scale)) == [f"ax{scale}.png", f"bx{scale}.png"]


def test_partners_of_images_that_are_left_out_do_not_matter(tmp_path):
    paths = fill(tmp_path / "hr", "a.png", "b.png")
    fill(tmp_path / "lr", "a.png", "b.png", shape=(4, 5, 3))
    assert names(find_partners(paths[:1], tmp_path / "lr", 2)) == ["a.png"]


@pytest.mark.parametrize(
    ("high", "low", "message"),
    [
        ("ab", "a", "b.png: no low-resolution partner at 1/2 in {lr}; expected for example bx2.png"),
        (
            "abcdef",
            "a",
            "b.png, c.png, d.png and 2 more: no low-resolution partner at 1/2 in {lr}; expected for example bx2.png",
        ),
        ("a", "ab", "b.png in {lr}: no high-resolution partner in {hr}"),
        ("a", ["a", "ax2"], "a.png has several low-resolution partners in {lr}: a.png and ax2.png"),
        ("ab", [], "a.png, b.png: no low-resolution partner at 1/2 in {lr}; expected for example ax2.png"),
    ],
)
def test_whoever_has_no_partner_is_named(tmp_path, high, low, message):
    paths = fill(tmp_path / "hr", *(f"{name}.png" for name in high))
    (tmp_path / "lr").mkdir()
    fill(tmp_path / "lr", *(f"{name}.png" for name in low), shape=(4, 5, 3))
    with pytest.raises(UserError) as error:
        find_partners(paths, tmp_path / "lr", 2)
    assert str(error.value).startswith(message.format(lr=tmp_path / "lr", hr=tmp_path / "hr"))


def test_all_sizes_are_checked_by_headers_alone(tmp_path):
    paths = fill(tmp_path / "hr", "a.png", "b.png", "c.png", shape=(9, 11))
    fill(tmp_path / "lr", "a.png", shape=(4, 5))  # a side that 2 does not divide is cut
    low = [*fill(tmp_path / "lr", "b.png", shape=(5, 5)), *fill(tmp_path / "lr", "c.png", shape=(9, 11))]
    for path in (*paths, *low):
        path.write_bytes(path.read_bytes()[:41])  # the header
    expected = f"^{re.escape(str(low[0]))} is 5x5, expected 5x4: b.png at 1/2; 1 more differ$"
    with pytest.raises(UserError, match=expected):
        find_partners(paths, tmp_path / "lr", 2)


@pytest.mark.parametrize(("high", "low"), [("RGB", "grey"), ("grey", "RGB")])
def test_a_grey_partner_of_colours_is_named_and_a_grey_image_may_be_stored_as_rgb(tmp_path, high, low):
    """Once a grey partner was repeated to three channels without a word."""
    shapes = {"grey": (), "RGB": (3,)}
    paths = fill(tmp_path / "hr", "a.png", shape=(8, 10) + shapes[high])
    partners = fill(tmp_path / "lr", "a.png", shape=(4, 5) + shapes[low])
    assert find_partners(paths, tmp_path / "lr", 2) == partners
    for path, shape in ((paths[0], (8, 10) + shapes[high]), (partners[0], (4, 5) + shapes[low])):
        write_png(path, np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    with pytest.raises(UserError, match=f"^{re.escape(str(partners[0]))} is {low}, expected {high}, as a.png is$"):
        find_partners(paths, tmp_path / "lr", 2)


def test_a_missing_folder_and_a_broken_link_are_named(tmp_path):
    paths = fill(tmp_path / "hr", "a.png")
    with pytest.raises(UserError, match=rf"^no folder {tmp_path}/lr of low-resolution images at 1/2$"):
        find_partners(paths, tmp_path / "lr", 2)
    (tmp_path / "lr").mkdir()
    (tmp_path / "lr/a.png").symlink_to("nothing")
    with pytest.raises(UserError, match=rf"^{tmp_path}/lr/a.png is a link to nothing, which does not exist$"):
        find_partners(paths, tmp_path / "lr", 2)


def partners(data, root: Path, scale: int) -> list[Path]:
    name = pair_text(data)
    return low_resolution_paths(name, image_paths(name, root), root, scale)


def test_a_pair_of_folders_an_entry_and_div2k(tmp_path):
    fill(tmp_path / "photos", "a.png")
    for scale in (2, 4):
        fill(tmp_path / f"small/X{scale}", "a.png", shape=(8 // scale, 10 // scale))
    pair = {"hr": f"{tmp_path}/photos", "lr": f"{tmp_path}/small/X{{scale}}"}
    assert image_paths(pair_text(pair), tmp_path) == [tmp_path / "photos/a.png"]
    (tmp_path / "datasets.yaml").write_text(
        "mine: {folders: photos, role: train, low_resolution: 'small/X{scale}'}\nplain: {folders: photos, role: train}"
    )
    for scale in (2, 4):
        for data in (pair, "mine", pair | {"hr": "plain"}):
            assert partners(data, tmp_path, scale) == [tmp_path / f"small/X{scale}/a.png"]
    assert partners("plain", tmp_path, 2) == []
    with pytest.raises(UserError, match=r"no folder .*/small/X3 of low-resolution images at 1/3"):
        partners("mine", tmp_path, 3)
    with pytest.raises(UserError, match=r"^a pair of folders is {hr: FOLDER, lr: FOLDER}; found the keys hr, low$"):
        pair_text({"hr": "mine", "low": "x"})
    fill(tmp_path / "DIV2K_valid_HR", "0801.png")
    (official,) = fill(tmp_path / "DIV2K_valid_LR_bicubic/X2", "0801x2.png", shape=(4, 5))
    assert partners(f"{tmp_path}/DIV2K_valid_HR", tmp_path, 2) == [official]
    fill(tmp_path / "DIV2K_valid_LR_bicubic/X2", "0801x2.png", shape=(4, 6))
    with pytest.raises(UserError, match=r"0801x2.png is 6x4, expected 5x4: 0801.png at 1/2$"):
        partners(f"{tmp_path}/DIV2K_valid_HR", tmp_path, 2)


def test_the_name_of_a_pair_is_of_the_images_of_both_folders(tmp_path):
    fill(tmp_path / "photos", "a.png")
    fill(tmp_path / "small", "a.png", shape=(4, 5))
    (tmp_path / "datasets.yaml").write_text("mine: {folders: photos, role: train, low_resolution: small}")
    pair = pair_text({"hr": f"{tmp_path}/photos", "lr": f"{tmp_path}/small"})

    def found() -> list[str]:
        return [data_name(name, tmp_path, 2) for name in (pair, "mine")]

    before = found()
    assert [name.rpartition("-")[0] for name in before] == ["photos", "mine"]
    own = data_name("mine", tmp_path)  # other tasks degrade the images themselves
    fill(tmp_path / "small", "a.png", shape=(4, 5, 3))
    after = found()
    assert data_name("mine", tmp_path) == own not in (*before, *after)
    fill(tmp_path / "photos", "b.png")
    assert all(len(set(names)) == 3 for names in zip(before, after, found(), strict=True))
