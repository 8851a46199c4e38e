"""Data sets of the user's own: one entry of datasets.yaml is all there is to it, and a bad one is one line."""

import sys
from pathlib import Path

import pytest

from nsr_cli.data import catalog
from nsr_cli.data.catalog import convention_names, find_dataset, image_paths
from nsr_cli.data.datasets import DATASETS
from nsr_cli.data.datasets_file import read_datasets
from nsr_cli.data.manifest import check_dataset
from nsr_cli.errors import UserError

ENTRY = "photographs: {title: My photographs, folders: [Photos, photos/HR], role: test, count: 2}\n"


@pytest.fixture
def write(tmp_path):
    def call(text: str | bytes) -> Path:
        path = tmp_path / "datasets.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return call


def photographs(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("a.png", "b.webp"):
        (folder / name).touch()


def test_one_entry_makes_a_data_set(tmp_path, write):
    write(ENTRY)
    photographs(tmp_path / "photos/HR")
    assert [path.name for path in image_paths("photographs", tmp_path)] == ["a.png", "b.webp"]
    dataset = find_dataset("photographs", tmp_path)
    assert (dataset.title, dataset.count, dataset.role) == ("My photographs", 2, "test")
    assert convention_names("photographs", ["luma", "rgb"], tmp_path) == ["rgb"]
    (row,) = [row for row in catalog.listing(tmp_path) if row.name == "photographs"]
    assert (row.images, row.where) == (2, str(tmp_path / "photos/HR"))
    (tmp_path / "photos/HR/c.png").touch()
    with pytest.raises(UserError, match=r"^My photographs: 3 images in .*, expected 2; `nsr data check photographs`"):
        image_paths("photographs", tmp_path)
    assert "3 images, expected 2" in check_dataset("photographs", tmp_path).problems


def test_only_folders_and_role_are_needed(tmp_path, write):
    write(f"mine:\n  folders: {tmp_path}/elsewhere\n  role: train\n")
    photographs(tmp_path / "elsewhere")
    assert len(image_paths("mine", tmp_path)) == 2
    (row,) = [row for row in catalog.listing(tmp_path) if row.name == "mine"]
    assert row == ("mine", "mine", "any", f"{tmp_path}/elsewhere", "")


def test_conventions_are_the_entrys(tmp_path, write):
    write("mine: {folders: mine, role: test, conventions: {rgb: [y, rgb], luma: luma}}")
    assert convention_names("mine", ["rgb"], tmp_path) == ["y", "rgb"]
    assert convention_names("mine", ["luma", "rgb"], tmp_path) == ["luma", "y", "rgb"]


def test_what_is_missing_is_said_in_one_line(tmp_path, write):
    path = write(ENTRY)
    with pytest.raises(UserError) as error:
        image_paths("photographs", tmp_path)
    assert str(error.value) == f"My photographs: no folder {tmp_path}/Photos; its entry in {path} says where it lies"
    with pytest.raises(UserError, match=r"did you mean 'photographs'\?\); there are: .*, photographs$"):
        find_dataset("photograph", tmp_path)


def test_a_changed_file_is_read_again_and_none_is_none(tmp_path, write):
    assert list(catalog.all_datasets(tmp_path)) == list(DATASETS)
    write(ENTRY)
    assert list(catalog.all_datasets(tmp_path)) == [*DATASETS, "photographs"]
    write("")
    assert list(catalog.all_datasets(tmp_path)) == list(DATASETS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {folders: [", ": is no YAML file: "),
        (b"\xff\xfe\xff", ": is no YAML file: "),
        ("- a\n- b", ": expected data sets by name; found ['a', 'b']"),
        ("a: {folders: x, role: test}\na: {folders: y, role: test}", ": is no YAML file: a is a repeated key (line 1)"),
        ("Mine: {folders: x, role: test}", ": 'Mine' cannot be a name; expected lower-case letters, digits, _ and -"),
        ("2024: {folders: x, role: test}", ": '2024' cannot be a name; "),
        ("../a: {folders: x, role: test}", ": '../a' cannot be a name; "),
        ("set5: {folders: x, role: test}", ": set5: a data set of that name is in the catalogue; choose another name"),
        ("a: folder", ": a: 'folder'; expected keys and values, folders and role at least"),
        ("a: {folders: x}", ": a lacks role: expected train or test"),
        ("a: {role: test}", ": a lacks folders: expected a text or a list of texts"),
        ("a: {folder: x, folders: x, role: test}", ": a.folder: no such key (did you mean folders?); there"),
        ("a: {folders: x, role: both}", ": a.role: 'both'; expected train or test"),
        ("a: {folders: [], role: test}", ": a.folders: []; expected a text or a list of texts"),
        ("a: {folders: [x, 3], role: test}", ": a.folders: ['x', 3]; expected a text or a list of texts"),
        ("a: {folders: x, role: test, count: 0}", ": a.count: 0; expected a whole number above 0"),
        ("a: {folders: x, role: test, count: true}", ": a.count: True; expected a whole number above 0"),
        ("a: {folders: x, role: test, files: [a.png], count: 2}", ": a.count: 2; expected 1, as many as there"),
        ("a: {folders: x, role: test, title: ''}", ": a.title: ''; expected one line of text"),
        ("a: {folders: x, role: test, conventions: {rgb: [y]}}", ": a.conventions: {'rgb': ['y']}; expected rgb:"),
        ("a: {folders: x, role: test, conventions: {rgb: luma, luma: luma}}", "; expected rgb: names among y, y8, rgb"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_one_line_with_file_and_key(tmp_path, write, text, message):
    path = write(text)
    with pytest.raises(UserError) as error:
        find_dataset("another", tmp_path)
    said = str(error.value)
    assert said.startswith(str(path)) and "\n" not in said and message.removeprefix(":") in said
    assert find_dataset("set5", tmp_path) is DATASETS["set5"]  # what is in the catalogue needs no such file


@pytest.mark.parametrize("deep", ["a: " + "[" * 5000, "a: {folders: a, role: " + "[" * 500 + "]" * 500 + "}"])
def test_a_file_nested_too_deeply_is_refused(tmp_path, deep):
    (tmp_path / "datasets.yaml").write_text(deep)
    limit = sys.getrecursionlimit()  # libraries raise it
    sys.setrecursionlimit(1000)
    try:
        with pytest.raises(UserError, match=rf"^{tmp_path}/datasets.yaml is no YAML file: .*recursion"):
            read_datasets(tmp_path / "datasets.yaml")
    finally:
        sys.setrecursionlimit(limit)


def test_a_file_that_is_there_but_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "datasets.yaml").symlink_to("datasets.yaml")
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}/datasets.yaml: Too many levels of symbolic links$"):
        read_datasets(tmp_path / "datasets.yaml")
    assert read_datasets(tmp_path / "none/datasets.yaml") == {}


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "datasets.yaml").symlink_to("mine.yaml")
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}/datasets.yaml: it links to mine.yaml, which is mis"):
        read_datasets(tmp_path / "datasets.yaml")
