"""nsr data: what it shows, what it fetches, what it finds wrong, and its exit codes."""

import re
import shutil
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nsr_cli.data import fetch, manifest
from nsr_cli.data.datasets import DATASETS, Dataset, Source
from nsr_cli.data.images import read_image, write_png

NAMES = ("a.png", "b.png", "c.png")


def rows(text: str) -> dict[str, list[str]]:
    """The lines of a table by their first column."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {line[0]: line[1:] for line in cells if len(line) == 5}


# list


def test_list_shows_what_how_many_where_and_licence(nsr, tmp_path):
    (tmp_path / "data/Set5").mkdir(parents=True)
    for i in range(5):
        write_png(tmp_path / f"data/Set5/{i}.png", np.zeros((4, 4), np.uint8))
    write_png(tmp_path / "data/Set12/01.png", np.zeros((4, 4), np.uint8))
    result = nsr("data list")
    assert result.code == 0, result.err
    table = rows(result.out)
    assert table["name"] == ["what", "images", "where", "licence"]
    assert set(DATASETS) <= set(table)
    for name, dataset in DATASETS.items():
        title, images, _, licence = table[name]
        assert (title, images, licence) == (dataset.title, str(dataset.count), dataset.licence)
    where = {name: line[2] for name, line in table.items()}
    assert where["set5"] == str(tmp_path / "data/Set5")
    partly = f"1 of 12 in {tmp_path / 'data/Set12'}"
    assert where["set12"].startswith("not here") and partly in where["set12"]
    assert where["b100"] == "not here: `nsr data get b100` fetches it"
    assert "http://www.manga109.org" in where["manga109"]  # has to be asked for
    assert where["bsds500"] == "not here: `nsr data get bsds500` fetches it"
    assert Path(where["embedded_val"]).is_dir()
    assert f"folder: {tmp_path / 'data'}" in result.out


def test_list_looks_where_the_environment_or_the_option_says(nsr, tmp_path, monkeypatch):
    for i in range(5):
        write_png(tmp_path / f"elsewhere/BSD/{i}.png", np.zeros((4, 4), np.uint8))
        write_png(tmp_path / f"option/benchmark/Set5/HR/{i}.png", np.zeros((4, 4), np.uint8))
    monkeypatch.setenv("NSR_DATA", str(tmp_path / "elsewhere"))
    assert f"folder: {tmp_path / 'elsewhere'}" in nsr("data list").out
    assert str(tmp_path / "option/benchmark/Set5/HR") in nsr("data list --data option").out
    assert rows(nsr("data list").out)["set5"][2].startswith("not here")


# check


def test_check_of_the_images_that_scikit_image_ships(nsr):
    result = nsr("data check embedded_train embedded_val")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "embedded_train: 7 images, checksums compared: as published",
        "embedded_val: 2 images, checksums compared: as published",
    ]


@pytest.fixture
def set5(nsr_data, tmp_path) -> Path:
    shutil.copytree(nsr_data / "Set5", tmp_path / "data/Set5")
    return tmp_path / "data/Set5"


@pytest.mark.parametrize("line", ["check data=mine embedded_val", "--data mine check embedded_val"])
def test_the_folder_may_stand_anywhere(nsr, line):
    assert nsr(f"data {line}").out == nsr("data check embedded_val --data mine").out != ""


def test_check_without_a_name_checks_all_that_is_here(nsr, set5):
    result = nsr("data check")
    assert (result.code, result.err) == (0, "")
    checked = [line.split(":")[0] for line in result.out.splitlines()]
    assert checked == ["set5", "embedded_train", "embedded_val"]


def test_check_says_which_image_differs_and_which_is_missing(nsr, set5):
    image = read_image(set5 / "bird.png").copy()
    image[100, 100, 1] ^= 1
    write_png(set5 / "bird.png", image)
    (set5 / "head.png").unlink()
    result = nsr("data check set5")
    assert result.code == 1
    assert result.out.splitlines() == [
        "set5: 4 images, checksums compared: 2 problems",
        "  head.png: missing",
        "  bird.png: other pixels than the published image",
    ]
    assert result.err == "nsr data: not as published: set5\n"
    image[100, 100, 1] ^= 1
    write_png(set5 / "bird.png", image)  # other bytes of a PNG, the same pixels
    assert nsr("data check set5").out.splitlines()[1:] == ["  head.png: missing"]


def test_check_says_which_image_has_another_size_or_is_damaged_or_strange(nsr, set5):
    write_png(set5 / "bird.png", read_image(set5 / "bird.png")[1:])
    (set5 / "baby.png").write_bytes((set5 / "baby.png").read_bytes()[:-1000])
    write_png(set5 / "mine.png", np.zeros((4, 4), np.uint8))
    result = nsr("data check set5 embedded_val")
    assert result.code == 1
    _, baby, bird, mine, other = result.out.splitlines()
    assert baby.startswith("  baby.png: ") and "truncated" in baby
    assert bird == "  bird.png: 287x288x3, expected 288x288x3"
    assert mine == "  mine.png: not in this data set"
    assert other == "embedded_val: 2 images, checksums compared: as published"  # goes on after a bad one
    assert result.err == "nsr data: not as published: set5\n"


def test_check_without_a_name_passes_over_a_folder_without_images(nsr, tmp_path):
    (tmp_path / "data/Urban100/notes").mkdir(parents=True)
    result = nsr("data check")
    assert "embedded_val: 2 images, checksums compared: as published" in result.out, result.err


# get


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The data set `toy`: three images in a zip that a server on this machine has, and its manifest."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setattr(manifest, "MANIFESTS", tmp_path / "manifests")
    monkeypatch.setattr(Quiet, "asked", [])
    (tmp_path / "manifests").mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        write_png(tmp_path / "original/Toy" / name, rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shutil.make_archive(str(tmp_path / "served/toy"), "zip", tmp_path / "original")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        source = Source(f"http://127.0.0.1:{server.server_port}/toy.zip", "*.png")
        dataset = Dataset(
            "toy", "Toy", 3, True, "test", "none", "noise", folders=("Toy",), sources=(source,), files=NAMES
        )
        monkeypatch.setitem(DATASETS, "toy", dataset)
        manifest.write_manifest("toy", tmp_path / "original", tmp_path / "manifests")
        yield dataset
        server.shutdown()
        thread.join()


def test_get_fetches_and_then_list_and_check_know_it(nsr, tmp_path, toy):
    assert rows(nsr("data list").out)["toy"][2] == "not here: `nsr data get toy` fetches it"
    result = nsr("data get toy")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{tmp_path / 'data/Toy'}\n"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["Toy"]
    for name in NAMES:
        assert np.array_equal(read_image(tmp_path / "data/Toy" / name), read_image(tmp_path / "original/Toy" / name))
    assert rows(nsr("data list").out)["toy"][2] == str(tmp_path / "data/Toy")
    assert nsr("data check toy").out == "toy: 3 images, checksums compared: as published\n"
    assert nsr("data get toy").code == 0 and len(Quiet.asked) == 1  # nothing to fetch again
    assert nsr("data get toy --data other").out == f"{tmp_path / 'other/Toy'}\n"


def test_get_adds_what_is_missing(nsr, tmp_path, toy):
    shutil.copytree(tmp_path / "original/Toy", tmp_path / "data/Toy")
    (tmp_path / "data/Toy/b.png").unlink()
    assert nsr("data check toy").code == 1
    assert nsr("data get toy").code == 0
    assert nsr("data check toy").code == 0


def test_get_from_a_mirror_that_lacks_it_is_one_line(nsr, tmp_path, toy, monkeypatch):
    (source,) = toy.sources
    gone = replace(source, url=source.url.replace("toy.zip", "gone.zip"))
    monkeypatch.setitem(DATASETS, "toy", replace(toy, sources=(gone,)))
    result = nsr("data get toy")
    assert result.code == 2
    assert result.err == f"nsr data: Toy could not be fetched. {gone.url}: HTTP 404\n"
    assert list((tmp_path / "data").iterdir()) == []


def test_get_of_several_names_the_unknown_one_before_it_fetches(nsr, tmp_path, toy):
    result = nsr("data get toy set6")
    assert result.code == 2 and result.err.startswith("nsr data: no data set 'set6' (did you mean 'set5'?); there are:")
    assert Quiet.asked == [] and not (tmp_path / "data").exists()


def test_get_of_what_is_installed_needs_no_network(nsr, tmp_path):
    result = nsr("data get embedded_val")
    assert result.code == 0 and (Path(result.out.strip()) / "chelsea.png").is_file()
    assert list(tmp_path.iterdir()) == []


# Bad input


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("get", "nsr data: get needs a name; there are: weights, div2k_train, "),
        ("get set6", "nsr data: no data set 'set6' (did you mean 'set5'?); there are: div2k_train, "),
        ("check Set5", "nsr data: no data set 'Set5' (did you mean 'set5'?); there are: "),
        ("check set5", "nsr data: Set5: no folder "),
        ("get manga109", "nsr data: Manga109 can't be fetched: ask its authors at http://www.manga109.org"),
        ("get div2k_val_crops", "nsr data: DIV2K-val crops"),
        ("fetch set5", "nsr data: "),
        ("list --folder x", "nsr data: "),
        ("list --data", "nsr data: "),
        ("list set5", "nsr data: "),
    ],
)
def test_one_line_and_exit_code_2(nsr, tmp_path, line, message):
    result = nsr(f"data {line}")
    assert result.code == 2
    assert result.err.startswith(message), result.err
    assert result.err.count("\n") == 1 and result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_action_lists_those_that_exist(nsr):
    error = nsr("data fetch set5").err
    assert "fetch" in error and all(action in error for action in ("list", "get", "check"))


@pytest.mark.parametrize("line", ["data", "data --help", "data -h"])
def test_help(nsr, line):
    result = nsr(line)
    assert result.code == 0 and all(f"nsr data {action}" in result.out for action in ("list", "get", "check"))
