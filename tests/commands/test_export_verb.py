"""nsr export: what it writes is scored as the run itself; refusals are one line and leave nothing behind."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from kept import records
from terminal import environment

from nsr_cli.data.images import write_png
from nsr_cli.folders import package_folder
from nsr_cli.runs.export import FORMATS
from nsr_cli.runs.record import read_record


@pytest.mark.parametrize("gate", ["none", "softmax", "uniform", "static", "se", "sigmoid"])
def test_an_exported_run_has_the_score_of_the_run(nsr, tmp_path, tiny, gate):
    line = f"model=wdsr sparsity={gate} patch=24 {tiny}"
    assert nsr(f"train {line}").code == 0
    (path,) = records(tmp_path)
    own = read_record(path)
    result = nsr(f"export {line} to=net.safetensors")
    assert result.code == 0, result.err
    assert str(tmp_path / "net.safetensors") in result.out and "at most" in result.out
    assert ("tiles    24x24" in result.out) == (gate not in ("none", "uniform", "static"))
    result = nsr(f"eval {line} ckpt=net.safetensors")
    assert result.code == 0, result.err
    (path,) = tmp_path.glob("results/records/untrained/*.json")
    exported = read_record(path)
    assert exported.tiling == own.tiling
    for convention, score in own.scores.items():
        for name, value in score.means.items():
            assert exported.scores[convention].means[name] == pytest.approx(value, abs=1e-4)


def test_a_file_of_weights_is_exported_as_the_network_that_it_says(nsr, tmp_path, trained, tiny):
    assert nsr(f"export sparsity=softmax {tiny} to=net.safetensors").code == 0
    assert nsr("export ckpt=net.safetensors 'to=[again.safetensors,net.pt2]'").code == 0
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()
    result = nsr("export model=edsr ckpt=net.safetensors to=other.pt2")  # the command line says another one
    assert result.code == 2 and "model=edsr: net.safetensors holds model=wdsr; leave out" in result.err
    assert not (tmp_path / "other.pt2").exists()


def test_published_weights(nsr, nsr_data):
    result = nsr(f"export model=arcnn task=dejpeg quality=20 ckpt=published data={nsr_data} to=arcnn.pt2")
    assert result.code == 0, result.err
    assert "image (batch, 1, height, width): luma, float32 in [0, 1]" in result.out


MINE = """
from torch import nn
def conv(inside, outside): return nn.Conv2d(inside, outside, 3, padding=1)
class Net(nn.Sequential):
    def __init__(self, width):
        super().__init__(conv(1, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, 1))
"""


def test_a_network_of_ones_own_with_sparse_convolutions_attached(nsr, write):
    write("my_net.py", MINE)
    network = "{_target_: my_net.Net, width: 8}"
    write(
        "conf/model/mine.yaml",
        f"# @package _global_\nmodel: {{name: mine, trained: true, reads: [grey], network: {network}}}",
    )
    line = "--config-dir conf model=mine task=denoise sparsity=softmax steps=2 batch=2 patch=24 threads=1"
    assert nsr(f"train {line}").code == 0
    result = nsr(f"export {line} 'to=[net.safetensors,net.pt2]'")
    assert result.code == 0, result.err
    assert nsr("export ckpt=net.safetensors to=again.pt2").code == 0


# Refusals


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "nsr export: to=null: expected a file, or a list of files, as in to=net.onnx or to=[net.onnx,net.pt2]\n"),
        ("to=[]", "nsr export: to=[]: expected a file, or a list of files"),
        ("to=5", "nsr export: to=5: expected a file, or a list of files"),
        ("model=bicubic to=a.pt2", "nsr export: model=bicubic: no network; expected one with weights to export\n"),
        ("sparsity=se to=a.pt2 results=r", "nsr export: no weights of this run in "),
        ("ckpt=none.pth to=a.pt2", "nsr export: ckpt=none.pth: cannot be read (No such file or directory)\n"),
        ("-m seed=0,1 to=a.pt2", "nsr export: -m: one export at a time\n"),
        ("too=a.pt2", "nsr export: no key 'too' (did you mean to?); there are: "),
        ("overwrite=3 to=a.pt2", "nsr export: overwrite=3: expected true or false\n"),
    ],
)
def test_bad_input(refused, line, message):
    refused(f"export {line}", message)


def test_the_command_that_trains_is_named(nsr):
    error = nsr("export model=wdsr sparsity=softmax 'lr_drops=[1/2]' to=a.pt2 overwrite=true").err
    assert error.endswith("; `nsr train model=wdsr sparsity=softmax 'lr_drops=[1/2]'` trains it\n")


def test_where_no_file_can_be_written(nsr, tmp_path, trained, tiny):
    (tmp_path / "here.pt2").write_text("mine")
    (tmp_path / "folder.pt2").mkdir()
    for to, message in [
        ("net.pth", f"to=net.pth: expected a file that ends in {', '.join(FORMATS)}"),
        ("net", f"to=net: expected a file that ends in {', '.join(FORMATS)}"),
        ("there/net.pt2", "to=there/net.pt2: no folder there"),
        ("folder.pt2", "to=folder.pt2: a folder; expected a file"),
        ("here.pt2", "to=here.pt2: is there already; overwrite=true replaces it"),
        ("[a.pt2,here.pt2,b.pth]", "to=here.pt2: is there already; overwrite=true replaces it; to=b.pth: expected a "),
    ]:
        result = nsr(f"export sparsity=softmax {tiny} 'to={to}'")
        assert result.code == 2 and result.err.startswith(f"nsr export: {message}"), result.err
        assert result.err.count("\n") == 1
    assert (tmp_path / "here.pt2").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pt2", "here.pt2", "results"]
    assert nsr(f"export sparsity=softmax {tiny} to=here.pt2 overwrite=true").code == 0
    assert (tmp_path / "here.pt2").read_bytes().startswith(b"PK")


def test_a_missing_package_is_named_before_anything_is_done(nsr, tmp_path, trained, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = nsr(f"export sparsity=softmax {tiny} 'to=[a.pt2,a.onnx]'")
    assert result.code == 2 and result.err.count("\n") == 1
    assert result.err.startswith("nsr export: to=a.onnx: .onnx files need the package onnx: pip install 'nsr[onnx]' (")
    assert not (tmp_path / "a.pt2").exists()


def test_damaged_files_are_refused(nsr, tmp_path, trained, tiny):
    assert nsr(f"export sparsity=softmax {tiny} to=net.safetensors").code == 0
    content = bytearray((tmp_path / "net.safetensors").read_bytes())
    content[-40] ^= 1  # in a weight: the number stays finite
    (tmp_path / "bad.safetensors").write_bytes(content)
    write_png(tmp_path / "mine/a.png", np.full((40, 40), 99, np.uint8))
    for line in (
        f"eval model=wdsr sparsity=softmax {tiny} ckpt=bad.safetensors benchmarks=[./mine]",
        "export ckpt=bad.safetensors to=a.pt2",
        f"export model=wdsr sparsity=softmax {tiny} ckpt=bad.safetensors to=a.pt2",
    ):
        result = nsr(line)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        assert "bad.safetensors: damaged: its content is not as it was written" in result.err
    assert not (tmp_path / "a.pt2").exists()


def test_killed_at_the_last_moment_the_file_before_it_stays(nsr, tmp_path, trained, tiny):
    (tmp_path / "net.safetensors").write_text("the one before")
    dying = (
        "import os, sys; from nsr_cli import cli\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), 9)\n"
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    line = ["export", "sparsity=softmax", *tiny.split(), "to=net.safetensors", "overwrite=true"]
    own = environment(PYTHONPATH=str(package_folder("conf").parent))
    done = subprocess.run([sys.executable, "-c", dying, *line], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "net.safetensors").read_text() == "the one before"
    assert {name for name in os.listdir(tmp_path) if not name.startswith(".")} == {"net.safetensors", "results"}
    assert nsr(" ".join(line)).code == 0


@pytest.mark.parametrize("key", ["wandb=true", "rescore=true", "benchmarks=[set5]", "device=cpu", "dry_run=true"])
def test_a_key_without_effect_is_refused_by_name_and_not_listed(nsr, key, capfd):
    name = key.partition("=")[0]
    code, out, err = nsr(f"export to=net.onnx {key}")
    assert (code, out) == (2, "") and err.startswith(f"nsr export: no key '{name}'") and err.count("\n") == 1
    with pytest.raises(SystemExit, match="0"):  # Hydra's own
        nsr("export --help")
    out = capfd.readouterr().out
    assert f"\n{name}: " not in out and "\nckpt: " in out
