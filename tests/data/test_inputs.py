"""What files, folders and patterns name, and what their outputs are called."""

import os
from pathlib import Path

import pytest

from nsr_cli.data.inputs import outputs_of, pictures_of
from nsr_cli.errors import UserError

FILES = ["a/x.png", "a/b/x.PNG", "a/b/y.jpg", "c/x.png", "c/.hidden/x.png", "c/.x.png", "c/text.txt", "[1].png",
         "w.jpeg", "w.png", "restored/w-x2.png", "raw"]  # fmt: skip
A = {"a/x.png": "x-x2.png", "a/b/x.PNG": "b/x-x2.PNG", "a/b/y.jpg": "b/y-x2.jpg"}
C = {"c/x.png": "c/x-x2.png"}
HERE = {name: f"{Path(name).with_suffix('')}-x2{Path(name).suffix}" for name in FILES[:4] + FILES[7:10]}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def outputs(words: list[str], out: str = "restored", form: str | None = None) -> dict[str, str]:
    made = outputs_of(pictures_of(words, Path(out)), Path(out), "-x2", form)
    return {str(path): os.path.relpath(output, out) for path, output in made.items()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a"], A),
        (["a/"], A),
        (["a", "a/x.png"], A),  # once
        (["a", "c"], {path: f"a/{output}" for path, output in A.items()} | C),  # both have an x.png
        (["a/x.png", "c/x.png"], {"a/x.png": "a/x-x2.png"} | C),
        (["a/x.png", "w.png"], {"a/x.png": "x-x2.png", "w.png": "w-x2.png"}),
        (["."], HERE),  # without what lies in `restored`
        (["*"], HERE),
        (["**/*.png"], {path: output for path, output in HERE.items() if path.endswith(".png")}),
        (["a/**"], A),
        (["[ac]/x.png"], {"a/x.png": "a/x-x2.png"} | C),
        (["[1].png"], {"[1].png": "[1]-x2.png"}),  # a file of that name comes first
        (["raw"], {"raw": "raw-x2.png"}),  # by its content, whatever it is called
        (["w.png", "restored"], {"w.png": "w-x2.png"}),  # as the shell makes of *
        (["restored/*.png"], {"restored/w-x2.png": "w-x2-x2.png"}),  # as asked for
    ],
)
def test_words(words, expected):
    assert outputs(words) == expected


def test_another_format():
    assert outputs(["w.png", "w.jpeg"], form=".webp") == {"w.png": "w.png-x2.webp", "w.jpeg": "w.jpeg-x2.webp"}
    assert outputs(["w.jpeg"], form=".webp") == {"w.jpeg": "w-x2.webp"}


def test_outputs_beside_the_pictures_are_not_restored_again():
    for name in ("a/x-x2.png", "a/x-x2-compare.png"):
        Path(name).touch()
    assert outputs(["a"], out="a") == A
    assert outputs(["a/x.png", "a/x-x2.png"], out="a") == {"a/x.png": "x-x2.png"}


def test_a_folder_that_is_linked_into_itself():
    os.symlink(".", "a/loop")
    os.symlink("x.png", "a/link.png")
    found = outputs(["a"])
    assert len(found) == 3 and found.items() - {("a/link.png", "link-x2.png")} <= A.items()  # one file once


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope.png", "a", "none"], "nope.png: no such file or folder; none: no such file or folder"),
        (["*.gif"], "*.gif: no pictures there; expected files that end in .png, .jpg"),
        (["empty"], "empty: no pictures there; expected files that end in .png, .jpg"),
    ],
)
def test_words_that_name_nothing(words, message):
    Path("empty").mkdir()
    with pytest.raises(UserError) as refused:
        pictures_of(words, Path("restored"))
    assert str(refused.value).startswith(message)
