"""Extending nsr from outside of it, each in as many places as its README says."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from nsr_cli.data.images import read_image, write_png
from nsr_cli.runs.record import Record, read_record

TINY = "blocks=1 units=4 width=1 steps=4 batch=2 threads=1 device=cpu"


def records(tmp_path: Path) -> dict[str, Record]:
    found = [read_record(path) for path in (tmp_path / "results/records").glob("*/*.json")]
    return {record.spec["model"]["name"]: record for record in found}


NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, scale: int, depth: int):
        super().__init__()
        layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)]
        self.body = nn.Sequential(*layers, nn.Upsample(scale_factor=scale))

    def forward(self, x):
        return self.body(x)
"""
NETWORK_YAML = """
# @package _global_
depth: 1
model:
  name: mine
  trained: true
  reads: [rgb]
  network:
    _target_: my_net.Net
    scale: ${scale}
    depth: ${depth}
"""


def test_a_network_is_a_class_and_a_yaml(nsr, tmp_path, write):
    write("my_net.py", NETWORK)
    write("own/model/mine.yaml", NETWORK_YAML)
    line = "--config-dir own model=mine batch=2 steps=4 threads=1 device=cpu"
    plan = nsr(f"train {line} dry_run=true")
    assert plan.code == 0, plan.err
    assert "parameters      84\n" in plan.out and "MACs per pixel  8.1e-05 M" in plan.out  # 3 * 3 * 9
    assert "parameters      168\n" in nsr(f"train {line} depth=2 dry_run=true").out
    result = nsr(f"train -m {line} depth=1,2")
    assert result.code == 0, result.err
    signed = [read_record(path).spec["model"] for path in (tmp_path / "results/records/smoke").glob("mine-sr-*.json")]
    assert [model["arguments"]["depth"] for model in sorted(signed, key=str)] == [1, 2]
    assert {model["target"] for model in signed} == {"my_net.Net"}
    again = nsr(f"train {line}")
    assert again.code == 0 and "training" not in again.out


HALO = NETWORK.replace("class Net(nn.Module):", "class Net(nn.Module):\n    halo = 1\n")


def test_a_network_without_a_halo_sees_whole_images_and_one_with_it_tiles(nsr, tmp_path, write, photographs):
    """Once a network without ``halo`` crashed after its training."""
    write("own/model/mine.yaml", NETWORK_YAML)
    tilings = []
    for text in (NETWORK, HALO):
        write("my_net.py", text)
        sys.modules.pop("my_net", None)
        line = (
            "--config-dir own model=mine batch=2 steps=2 threads=1 device=cpu benchmarks=[./photographs] rescore=true"
        )
        result = nsr(f"train {line}")
        assert result.code == 0, result.err
        tilings.append(records(tmp_path)["mine"].tiling)
    assert tilings[0]["margin"] == 0 and tilings[0]["side"] >= 10_000
    assert tilings[1] == {"side": 514, "margin": 1, "overlap": 0}


def test_scores_of_changed_code_are_shown_as_such(nsr, tmp_path, write, photographs):
    """Once the scores of an earlier network of the same name were shown without a word."""
    write("own/model/mine.yaml", NETWORK_YAML)
    write("my_metric.py", METRIC)
    line = "train --config-dir own model=mine batch=2 steps=4 threads=1 device=cpu benchmarks=[./photographs]"
    other = (
        "  my_net: changed since then; rescore=true scores with the present code, another model.name=... trains with it"
    )
    for text, warned in ((NETWORK, False), (NETWORK.replace("3, padding=1", "1"), True)):
        write("my_net.py", text)
        sys.modules.pop("my_net", None)
        result = nsr(f"{line} metrics=[my_metric.mae]")
        assert result.code == 0 and (other in result.out) == warned, result.out + result.err
    write(
        "table.yaml",
        f'title: Mine\nrows: [{{label: Own, command: "nsr {line.replace("--config-dir own ", "")}"}}]\n'
        "columns: [{label: PSNR, benchmark: ./photographs}]\n",
    )
    for form in ("markdown", "csv"):
        result = nsr(f"table ./table.yaml --config-dir own format={form}")
        assert result.code == 0 and "Scores from before a change of my_net: Own." in result.out + result.err
    assert nsr("report protocols=[smoke]").code == 0
    assert ", before a change of my_net</td>" in (tmp_path / "results/report.html").read_text()
    (tmp_path / "my_net.py").rename(tmp_path / "away.py")  # as on a machine that has the records alone
    assert other not in nsr(f"{line} metrics=[my_metric.mae]").out
    (tmp_path / "away.py").rename(tmp_path / "my_net.py")
    result = nsr(f"{line} model.name=mine2")
    assert result.code == 0 and "training mine2-" in result.out and other not in result.out
    write("my_metric.py", METRIC.replace("abs(", "square("))
    sys.modules.pop("my_metric", None)
    line = f"{line} model.name=mine2 metrics=[my_metric.mae]"
    assert nsr(line).code == 0
    write("my_metric.py", METRIC)
    sys.modules.pop("my_metric", None)
    assert other.replace("my_net", "my_metric") in nsr(line).out
    assert "changed since" not in nsr(f"{line} rescore=true").out + nsr(line).out


def test_a_module_without_parameters_is_a_method_without_training(nsr, tmp_path, write, photographs):
    """Once it ended in StopIteration, without a word."""
    write("my_net.py", NETWORK.replace("*layers, ", ""))
    write("own/model/mine.yaml", NETWORK_YAML)
    refused = nsr("train --config-dir own model=mine batch=2 steps=4 device=cpu")
    assert refused.code == 2 and refused.err == (
        "nsr train: _target_=my_net.Net: has nothing to train; expected trained: false in its YAML\n"
    )
    write("own/model/mine.yaml", NETWORK_YAML.replace("trained: true", "trained: false"))
    for line in ("eval benchmarks=[./photographs]", "restore photographs"):
        result = nsr(f"{line} --config-dir own model=mine")
        assert result.code == 0, result.err
    assert records(tmp_path)["mine"].cost["parameters"] == 0


def test_a_network_whose_sides_are_multiples_restores_any_size(nsr, tmp_path, write, photographs):
    """Once it ended in a traceback when it was scored, after its training."""
    even = NETWORK.replace("*layers, ", "*layers, nn.PixelUnshuffle(4), nn.PixelShuffle(4), ")
    write("my_net.py", even)
    write("own/model/mine.yaml", NETWORK_YAML)
    line = "--config-dir own model=mine batch=2 steps=2 threads=1"
    refused = nsr(f"train {line} device=cpu benchmarks=[./photographs]")
    assert refused.code == 2 and "model=mine: fails on (1, 3, 33, 35): " in refused.err
    assert "see `multiple` in nsr_cli.models" in refused.err and refused.err.count("\n") == 1
    write("my_net.py", even.replace("class Net(nn.Module):", "class Net(nn.Module):\n    multiple = 4\n"))
    sys.modules.pop("my_net", None)
    write_png(tmp_path / "odd.png", np.zeros((33, 27, 3), np.uint8))
    train = "train device=cpu benchmarks=[./photographs]"
    for verb in (train, "restore odd.png", "export to=[net.pt2,net.safetensors]"):
        result = nsr(f"{verb} {line}")
        assert result.code == 0, result.err
    assert "height and width multiples of 4" in result.out
    assert read_image(tmp_path / "restored/odd-x2.png").shape == (66, 54, 3)
    write("my_net.py", even.replace("class Net(nn.Module):", "class Net(nn.Module):\n    multiple = 0\n"))
    sys.modules.pop("my_net", None)
    assert "model=mine: multiple=0; expected an integer" in nsr(f"train {line} device=cpu seed=1").err


def test_a_network_that_trains_on_another_output_is_refused(nsr, write):
    """Once a tuple ended in a traceback at the first step, and a module named `tile` before it."""
    write("own/model/mine.yaml", NETWORK_YAML)
    line = "train --config-dir own model=mine batch=2 steps=4 device=cpu"
    pair = "y = self.body(x)\n        return (y, x) if self.training else y"
    write("my_net.py", NETWORK.replace("return self.body(x)", pair))
    result = nsr(line)
    assert result.code == 2 and "turns (2, 3, 32, 32) in training into a tuple; expected (2, 3, 64, 64)" in result.err
    write("my_net.py", NETWORK.replace("self.body", "self.tile"))
    sys.modules.pop("my_net", None)
    result = nsr(line)
    assert result.code == 2 and "my_net.Net: has a part named tile, where nsr keeps the side of its tiles" in result.err


def test_a_network_of_another_output_is_refused_before_its_first_step(nsr, tmp_path, write):
    write("my_net.py", NETWORK.replace("scale_factor=scale", "scale_factor=1"))
    write("own/model/mine.yaml", NETWORK_YAML)
    for way in ("", " dry_run=true"):
        result = nsr(f"train --config-dir own model=mine batch=2 steps=4 device=cpu{way}")
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        assert result.err == (
            "nsr train: model=mine: my_net.Net turns (1, 3, 32, 32) into (1, 3, 32, 32); "
            "expected (1, 3, 64, 64) for task=sr\n"
        )
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("code", "config", "message"),
    [
        (
            ("self.body(x)", "self.bodies(x)"),
            ("", ""),
            "model=mine: fails on (1, 3, 32, 32): AttributeError: 'Net' object has no attribute 'bodies'",
        ),
        (
            ("", ""),
            ("  trained: true\n", ""),
            "model: no trained; expected `# @package _global_`, then model: with name",
        ),
        (("", ""), ("[rgb]", "[bgr]"), "model.reads=[bgr]: expected a list of rgb, luma, grey"),
        (("", ""), ("_target_", "target"), "model.network={'target': 'my_net.Net', "),
    ],
)
def test_what_is_wrong_with_ones_own_is_one_line(nsr, tmp_path, write, code, config, message):
    write("my_net.py", NETWORK.replace(*code) if code[0] else NETWORK)
    write("own/model/mine.yaml", NETWORK_YAML.replace(*config) if config[0] else NETWORK_YAML)
    sys.modules.pop("my_net", None)
    result = nsr("train --config-dir own model=mine batch=2 steps=4 device=cpu")
    assert result.code == 2 and result.err.count("\n") == 1, result.err
    assert result.err.startswith(f"nsr train: {message}"[:110]), result.err
    assert not (tmp_path / "results").exists()


def test_a_lack_of_memory_is_no_fault_of_the_network(nsr, write):
    write("my_net.py", NETWORK.replace("return self.body(x)", "raise RuntimeError('not enough memory')"))
    write("own/model/mine.yaml", NETWORK_YAML)
    sys.modules.pop("my_net", None)
    result = nsr("train --config-dir own model=mine batch=2 steps=4 device=cpu")
    assert result.code == 1 and "not enough memory" in result.err and "fails on" not in result.err


def test_a_network_of_ones_own_is_made_sparse(nsr, write):
    """Needs a sparsify that takes the gate's knobs."""
    write("my_net.py", NETWORK)
    write("own/model/mine.yaml", NETWORK_YAML)
    line = "--config-dir own model=mine sparsity=softmax cardinality=3 batch=2 steps=4 device=cpu dry_run=true"
    plain, hidden = nsr(f"train {line}"), nsr(f"train {line} gate_hidden=8")
    assert plain.code == hidden.code == 0, plain.err
    # k = 4 kernels and biases, and a gate of 3 inputs and 4 * 3 outputs; then one through 8 hidden units
    assert f"parameters      {4 * 84 + 12 * 3 + 12}\n" in plain.out
    assert f"parameters      {4 * 84 + 8 * 3 + 8 + 12 * 8 + 12}\n" in hidden.out


GATE = '''
import torch


def sharp(logits, tau, training, power: float = 1.0):
    """A softmax to a power, (B, k, d)."""
    return torch.softmax(power * logits / tau, dim=1)
'''
GATE_YAML = """
gate: my_gate.sharp
gate_options:
  power: 3
"""


def test_a_gate_with_a_knob_of_its_own_is_a_function_and_a_yaml(nsr, tmp_path, write):
    """Needs layers that take a gate by its dotted name."""
    write("my_gate.py", GATE)
    write("own/sparsity/sharp.yaml", GATE_YAML)
    line = f"ablate -m --config-dir own sparsity=sharp sparsity.gate_options.power=1,3 {TINY}"
    result = nsr(line)
    assert result.code == 0, result.err
    found = [read_record(path) for path in (tmp_path / "results/records/smoke").glob("*.json")]
    assert sorted(record.spec["sparsity"]["gate_options"]["power"] for record in found) == [1, 3]
    assert all(record.gates and record.spec["sparsity"]["groups"] == 4 for record in found)
    psnr = {record.signature: record.scores["rgb"].means["psnr"] for record in found}
    assert nsr(f"ablate sparsity=softmax {TINY}").code == 0
    everything = [read_record(path) for path in (tmp_path / "results/records/smoke").glob("*.json")]
    (usual,) = (record for record in everything if record.signature not in psnr)
    assert usual.scores["rgb"].means["psnr"] in psnr.values() and len(set(psnr.values())) == 2  # power=1 is the softmax
    write("my_gate.py", GATE.replace("dim=1)", "dim=1)[:, 0]"))
    sys.modules.pop("my_gate")
    refused = nsr(f"ablate --config-dir own sparsity=sharp seed=7 {TINY}")
    assert refused.code == 2 and "gate=my_gate.sharp: it returned weights (1, 1); expected (B, k, d)" in refused.err
    refused = nsr(f"ablate --config-dir own sparsity=sharp +sparsity.gate_options.depth=1 {TINY}")
    assert refused.code == 2 and "depth" in refused.err and refused.err.count("\n") == 1, refused.err


def test_a_data_set_is_an_entry_of_datasets_yaml(nsr, tmp_path, write, photographs):
    """Needs the data root's datasets.yaml."""
    photographs.rename(tmp_path / "here")
    write(
        "data/datasets.yaml",
        "mine:\n  folders: ../here\n  role: test\n  count: 2\n  conventions: {rgb: y, luma: y}\n"
        "other: {folders: ../there, role: train}\n",
    )
    result = nsr("eval benchmarks=[mine]")
    assert result.code == 0, result.err
    record = records(tmp_path)["bicubic"]
    assert record.benchmark.startswith("mine-") and list(record.scores) == ["y"]
    assert set(record.scores["y"].images) == {"a.png", "b.png"}
    (tmp_path / "here/a.png").write_bytes((tmp_path / "here/b.png").read_bytes())
    assert nsr("eval benchmarks=[mine]").code == 0
    scores = {path.stem: read_record(path).scores["y"].means for path in tmp_path.glob("results/records/*/*.json")}
    assert len(scores) == 2 and len({mean["psnr"] for mean in scores.values()}) == 2  # other images, another score
    refused = nsr(f"ablate train=mine {TINY}")
    assert refused.code == 2 and refused.err.startswith("nsr ablate: train=mine: a benchmark; training on it voids")
    assert refused.err.endswith(", embedded_train, other\n") and "mine" in nsr("data list").out


TASK = '''
from dataclasses import dataclass
from typing import ClassVar

import cv2

from nsr_cli.data import degrade
from nsr_cli.engine.conventions import Convention
from nsr_cli.tasks import Task


@dataclass(frozen=True)
class Deblurring(Task):
    """A box blur of luma, of ``width`` pixels."""

    width: int = 3
    name: ClassVar[str] = "deblur"

    @property
    def level(self):
        return self.width

    @property
    def fixed(self):
        return f"w{self.width}"

    def conventions(self, benchmark, reads, data):
        return [Convention("luma", "luma", rounded=True, measured="as given", border=2)]

    def prepare(self, path, image, convention):
        truth = degrade.as_luma(image)
        return self.degraded(path, truth), truth

    def degraded(self, path, truth):
        return cv2.blur(truth, (self.width, self.width))
'''
TASK_YAML = """
name: deblur
_target_: my_task.Deblurring
width: 3
channels: 1
usual:
  train: embedded_train
  benchmarks: [embedded_val]
"""


def test_a_task_is_a_class_and_a_yaml(nsr, tmp_path, write):
    write("my_task.py", TASK)
    write("own/task/deblur.yaml", TASK_YAML)
    scores = []
    for width in (3, 5):
        result = nsr(f"eval --config-dir own task=deblur task.width={width} model=identity")
        assert result.code == 0, result.err
        scores.append(records(tmp_path)["identity"].scores["luma"].means["psnr"])
        (path,) = (tmp_path / "results/records/untrained").glob("identity-deblur-*.json")
        path.unlink()
    assert scores[0] > scores[1] > 15  # more blur, less PSNR
    trained = nsr(f"train --config-dir own task=deblur {TINY.replace('width=1 ', '')}")
    assert trained.code == 0, trained.err
    record = records(tmp_path)["wdsr"]
    assert record.run.startswith("wdsr-deblur-") and record.scores["luma"].convention.border == 2
    assert record.spec["task"] == {"name": "deblur", "target": "my_task.Deblurring", "width": 3, "channels": 1}
    explained = nsr("eval --config-dir own task=deblur model=identity explain=true")
    assert explained.code == 0 and "under every convention" in explained.out
    write("my_task.py", TASK.replace("def fixed", "def fixes"))
    del sys.modules["my_task"]
    refused = nsr(f"train --config-dir own task=deblur seed=1 {TINY.replace('width=1 ', '')}")
    assert refused.code == 2 and refused.err.startswith("nsr train: task=deblur: has neither fixed nor sigma")
    refused = nsr("eval --config-dir own task=deblur model=bicubic")
    assert refused.code == 2 and refused.err.startswith("nsr eval: task=deblur: model=bicubic is not for it; it does: ")


METRIC = '''
import numpy as np


def nothing(restored, truth):
    return np.nan


def words(restored, truth):
    return "much"


def mae(restored, truth):
    """Mean absolute error, 0 to 255."""
    return np.abs(restored - truth).mean()
'''


def test_a_metric_is_a_function_and_old_records_are_filled(nsr, tmp_path, write, photographs):
    write("my_metric.py", METRIC)
    line = "eval benchmarks=[./photographs]"
    assert nsr(line).code == 0
    before = records(tmp_path)["bicubic"]
    result = nsr(f"{line} metrics=[my_metric.mae,ssim8]")
    assert result.code == 0, result.err
    after = records(tmp_path)["bicubic"]
    old, new = before.scores["rgb"], after.scores["rgb"]
    assert set(new.means) == {"psnr", "ssim", "ssim8", "my_metric.mae"} and "my_metric.mae" in result.out
    assert {name: new.means[name] for name in old.means} == old.means  # and what was there is the same
    for file, scores in new.images.items():
        assert 0 < scores["my_metric.mae"] < 60 and scores["psnr"] == old.images[file]["psnr"]
    (path,) = (tmp_path / "results/records/untrained").glob("*.json")
    assert replace(after, scores={}, seconds=None, made={}) == replace(before, scores={}, seconds=None, made={})
    assert after.made.pop("own").keys() == {"my_metric"} and after.made == before.made
    time = path.stat().st_mtime_ns
    for again in (f"{line} metrics=[my_metric.mae]", line):  # a record with more answers for less
        assert nsr(again).code == 0 and path.stat().st_mtime_ns == time
    for bad, words in (
        ("metrics=[lpips]", "no metric 'lpips'; there are: psnr, ssim, ssim8, or a function as in my_metrics.lpips"),
        ("metrics=[my_metric.nothing]", "photographs/a.png: metrics=[my_metric.nothing]: it returned nan; expected a"),
        ("metrics=[my_metric.words]", "metrics=[my_metric.words]: it returned 'much'; expected a number"),
        ("metrics=[my_metric.mse]", "metrics=[my_metric.mse]: expected a class or function that can be imported; "),
    ):
        refused = nsr(f"{line} {bad}")
        assert refused.code == 2 and words in refused.err and refused.err.count("\n") == 1, refused.err


def test_a_table_is_a_yaml_of_any_name(nsr, tmp_path, write, photographs):
    write("my_metric.py", METRIC)
    table = {
        "title": "Mine",
        "text": "Of my own photographs.",
        "corner": "Method",
        "metrics": ["psnr", "my_metric.mae"],
        "rows": [{"label": "Bicubic", "command": "nsr eval model=bicubic benchmarks=[embedded_val]"}],
    }
    write("a folder/my own-table.yaml", yaml.safe_dump(table))
    line = "table 'a folder/my own-table.yaml'"
    shown = nsr(line)
    assert shown.code == 0, shown.err
    assert "    nsr eval -m model=bicubic benchmarks=[embedded_val] metrics=[my_metric.mae]\n" in shown.out
    assert nsr("eval model=bicubic").code == 0  # without that metric, the record does not fill the cell
    assert "nsr eval -m model=bicubic" in nsr(line).out
    result = nsr(f"{line} run=true")
    assert result.code == 0 and "Missing" not in result.out, result.err
    record = records(tmp_path)["bicubic"]
    (shown,) = record.scores.values()
    assert f"{shown.means['psnr']:.2f} / {shown.means['my_metric.mae']:.4f}" in result.out
    assert (tmp_path / "results/tables/smoke/my own-table.md").exists()
    assert "Missing" not in nsr(line).out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *dict.fromkeys(("", "[", "3", "[" * 10**4), "mine.yaml: describes no table (").items(),
        ("{title: x, rows: 5}", "mine: rows=5: expected a list"),
        ("{title: x, rows: [{label: a, command: nsr eval, benchmark: nope}]}", "no data set 'nope'"),
        ("{title: x, rows: [{label: a, command: nsr train, benchmark: nope}]}", "no data set 'nope'"),
        ("title: x", "mine: the table has no rows; it has: name, text, corner, title"),
        ("{title: x, rows: [{lable: a}]}", "mine: no key 'lable' (did you mean label?); there are: label, "),
        ("{title: x, rows: [{label: a}], baselin: a}", "mine: no key 'baselin' (did you mean baseline?); there are: "),
        ("{title: x, rows: [{label: a}], claims: [{order: [a, a]}]}", "mine: a claim has no says; it has: order"),
    ],
)
def test_a_file_that_describes_no_table_is_one_line(nsr, write, content, message):
    write("mine.yaml", content)
    for name, words in (("mine.yaml", message), ("nope.yaml", "nope.yaml: no such file")):
        result = nsr(f"table {name}")
        assert result.code == 2 and result.err.startswith(f"nsr table: {words}"), result.err
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "protocol",
            "epochs: 1\npatches_per_image: 1\nsteps: null\nbatch: 1\npatch: 20\nprecision: fp32\nblocks: 1\nunits: 4",
            "protocol: no name; its config in conf/protocol has name",
        ),
        ("protocol", "name: [", "YAML, line 1: expected the node content, but found '<stream end>'"),
        ("task", "name: mine\nchannels: 1", "task: no _target_; its config in conf/task has name, _target_, channels"),
        ("task", "_target_: x.Y\nchannels: 1", "task: no name; its config in conf/task has name, _target_, channels"),
        ("task", "name: mine\n_target_: x.Y\nchannels: x", "task.channels=x: expected a whole number above 0"),
        ("sparsity", "groups: 2", "sparsity.gate=null: expected the name of a gate, or of a function of your own"),
    ],
)
def test_a_group_of_ones_own_that_lacks_something_is_one_line(nsr, write, file, content, message):
    write(f"own/{file}/mine.yaml", content)
    result = nsr(f"train --config-dir own {file}=mine dry_run=true train=embedded_train benchmarks=[embedded_val]")
    assert result.code == 2 and result.err.count("\n") == 1 and message in result.err, result.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trained: perhaps", "model.trained=perhaps: expected true or false"),
        ("tasks: 5", "model.tasks=5: expected a list of tasks"),
        ("reads: [[rgb]]", "model.reads=[[rgb]]: expected a list of rgb, luma, grey"),
        ("network: {_target_: nsr_cli.models.edsr.EDSR}", "model.network: nsr_cli.models.edsr.EDSR needs scale"),
    ],
)
def test_a_model_of_ones_own_that_lacks_something_is_one_line(nsr, write, change, message):
    model = {"name": "mine", "trained": True, "reads": ["rgb"], "network": {"_target_": "nsr_cli.models.edsr.EDSR"}}
    write("own/model/mine.yaml", "# @package _global_\n" + yaml.safe_dump({"model": model | yaml.safe_load(change)}))
    result = nsr("train --config-dir own model=mine dry_run=true")
    assert result.code == 2 and result.err.startswith(f"nsr train: {message}"), result.err
    assert result.err.count("\n") == 1
