"""Published weights by name, by file, and by a file that is none."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from nsr_cli.data.images import write_png
from nsr_cli.folders import package_folder
from nsr_cli.runs.run import run_of

CONF = package_folder("conf")
LEVEL = {"sr": "scale", "denoise": "sigma", "dejpeg": "quality"}
LEVELS = {"sr": (2, 4), "dejpeg": (10, 40)}  # some of those of weights that serve any


def published() -> list[tuple[str, str, int | float, str]]:
    """(model, task, level, file) of every published entry of conf/model."""
    found = []
    for path in sorted((CONF / "model").glob("*.yaml")):
        for task, levels in yaml.safe_load(path.read_text())["model"].get("published", {}).items():
            for level, entry in levels.items():
                every = LEVELS[task] if level == "any" else [level]
                found += [(path.stem, task, one, entry["file"]) for one in every]
    return found


def test_the_models_with_published_weights():
    assert {(model, task) for model, task, *_ in published()} == {
        ("vdsr", "sr"), ("dncnn", "denoise"), ("dncnn", "dejpeg"), ("arcnn", "dejpeg"),
    }  # fmt: skip


@pytest.mark.parametrize(("model", "task", "level", "file"), published())
def test_published_is_the_file_in_the_data_folder(asked, nsr_data, model, task, level, file):
    line = f"eval model={model} task={task} {LEVEL[task]}={level} data={nsr_data}"
    run = asked(f"{line} ckpt=published")
    checksum = hashlib.sha256((nsr_data / file).read_bytes()).hexdigest()
    assert (run.request.ckpt, run.spec.weights) == (str(nsr_data / file), checksum)
    assert run.spec.budget == "untrained"
    by_name = asked(f"{line} ckpt={file}")  # below the data folder
    assert by_name.request.ckpt == run.request.ckpt and by_name.spec == run.spec


def test_the_records_of_published_weights_are_found_where_the_file_is_not(asked):
    for model, task, level, file in published():
        run = asked(f"eval model={model} task={task} {LEVEL[task]}={level} ckpt=published data=/nowhere")
        assert run.request.ckpt == f"/nowhere/{file}" and len(run.spec.weights) == 64
        sent = run_of(json.loads(json.dumps(run.to_json())))  # a job elsewhere
        assert sent.spec == run.spec and sent.request == run.request


def test_the_way_to_write_a_level_does_not_matter(asked):
    line = "eval model=dncnn task=denoise ckpt=published"
    assert asked(f"{line} sigma=25.0").name == asked(f"{line} sigma=25").name


# On the command line


@pytest.fixture
def one_image(tmp_path) -> str:
    """Overrides that score one small image."""
    generator = np.random.default_rng(0)
    write_png(tmp_path / "mine/a.png", generator.integers(0, 256, (40, 40), dtype=np.uint8))
    return "benchmarks=[./mine] threads=1 device=cpu"


def refused(nsr, tmp_path: Path, line: str) -> str:
    """The one line that a refused command ends with."""
    result = nsr(f"eval {line}")
    assert result.code == 2, result.out + result.err
    assert result.err.startswith("nsr eval: ") and result.err.count("\n") == 1, result.err
    assert not list(tmp_path.glob("results/records/*/*"))
    return result.err


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("model=dncnn task=denoise sigma=20", "model=dncnn task=denoise at 20; there are: 15, 25, 50"),
        ("model=arcnn task=dejpeg quality=15", "model=arcnn task=dejpeg at 15; there are: 10, 20, 30, 40"),
        ("model=edsr scale=3", "model=edsr task=sr at 3; there are: none"),
        ("model=wdsr task=denoise", "model=wdsr task=denoise at 25; there are: none"),
    ],
)
def test_a_level_without_published_weights(nsr, tmp_path, one_image, line, found):
    error = refused(nsr, tmp_path, f"{line} ckpt=published {one_image}")
    assert error == f"nsr eval: ckpt=published: no weights known for {found}\n"


@pytest.mark.parametrize("damage", ["5", "weights/dncnn", "{denoise: weights}", "{denoise: {25: {file: a.mat}}}"])
def test_a_damaged_list_of_published_weights_in_a_config_of_ones_own(nsr, tmp_path, one_image, write, damage):
    network = "{_target_: nsr_cli.models.dncnn.DnCNN, layers: 3}"
    model = f"{{name: mine, trained: true, reads: [grey], network: {network}, published: {damage}}}"
    write("own/model/mine.yaml", f"# @package _global_\nmodel: {model}\n")
    error = refused(nsr, tmp_path, f"--config-dir own model=mine task=denoise ckpt=published {one_image}")
    assert error.startswith("nsr eval: model.published=") and error.endswith("as in conf/model/dncnn.yaml\n")


def test_published_weights_that_are_not_on_this_machine(nsr, tmp_path, one_image):
    error = refused(nsr, tmp_path, f"model=vdsr ckpt=published data=nowhere {one_image}")
    assert "nowhere/weights/vdsr/vdsr_official.mat" in error


def test_another_file_under_a_published_name_is_told_apart(nsr, nsr_data, tmp_path, one_image):
    """Else its scores would be recorded, and shown in tables, as those of the published weights."""
    place = tmp_path / "data/weights/dncnn/sigma25.mat"
    place.parent.mkdir(parents=True)
    shutil.copy(nsr_data / "weights/dncnn/sigma15.mat", place)
    assert "weights/dncnn/sigma25.mat" in refused(nsr, tmp_path, f"model=dncnn task=denoise ckpt=published {one_image}")


@pytest.mark.parametrize(
    ("line", "file", "words"),
    [
        ("model=dncnn task=denoise", "arcnn/q10.mat", "weights of ARCNN, but the model is DnCNN"),
        ("model=arcnn task=dejpeg", "vdsr/vdsr_official.mat", "weights of VDSR, but the model is ARCNN"),
        ("model=vdsr", "dncnn/sigma25_kair.pth", "weights of DnCNN, but the model is VDSR"),
        ("model=dncnn task=denoise", "dncnn/dncnn3.mat", "weights of DnCNN in other sizes: "),
    ],
)
def test_the_weights_of_another_network(nsr, nsr_data, tmp_path, one_image, line, file, words):
    error = refused(nsr, tmp_path, f"{line} ckpt=weights/{file} data={nsr_data} {one_image}")
    assert f"weights/{file}: {words}" in error


class Code:
    """What unpickles by making a folder: a stand-in for anything that a hostile file may do."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("writer", ["pickle", "torch", "torch with tensors"])
def test_a_pickle_that_would_run_code_is_refused(nsr, tmp_path, one_image, writer):
    code, path = Code(tmp_path / "pwned"), tmp_path / "weights.pth"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(code))
    else:
        torch.save(code if writer == "torch" else {"noise.0.weight": torch.zeros(2), "epoch": code}, path)
    error = refused(nsr, tmp_path, f"model=dncnn task=denoise ckpt=weights.pth {one_image}")
    assert "weights.pth: refused, because to load it is to run code that it names (" in error
    assert writer == "pickle" or "mkdir" in error
    assert not (tmp_path / "pwned").exists()
    pickle.loads(pickle.dumps(code))  # it would have
    assert (tmp_path / "pwned").exists()


def test_a_file_that_is_no_weights_at_all(nsr, tmp_path, one_image):
    (tmp_path / "notes.pth").write_text("some notes")
    assert "notes.pth: not network weights" in refused(nsr, tmp_path, f"model=vdsr ckpt=notes.pth {one_image}")
    assert "ckpt=mine: " in refused(nsr, tmp_path, f"model=vdsr ckpt=mine {one_image}")  # a folder


def test_published_weights_end_to_end(nsr, nsr_data, tmp_path, one_image):
    result = nsr(f"eval model=arcnn task=dejpeg quality=20 ckpt=published data={nsr_data} {one_image}")
    assert result.code == 0, result.err
    (record,) = tmp_path.glob("results/records/untrained/*.json")
    assert hashlib.sha256((nsr_data / "weights/arcnn/q20.mat").read_bytes()).hexdigest() in record.read_text()
    assert str(nsr_data) not in record.read_text()
