"""nsr bench: the files it writes, and what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from nsr_cli.bench.timings import load_timing, render
from nsr_cli.commands import bench
from nsr_cli.commands.knobs import BENCH, defaults
from nsr_cli.folders import package_folder

SMALL = "bench batch=2 size=8 channels=8 groups=[4,2,4] rounds=2 threads=1 device=cpu"


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    timing = load_timing(package_folder("experiments"))
    small = {**timing.network, "blocks": 1, "units": 4, "width": 4, "batch": 2, "patch": 8, "cardinality": 4}
    monkeypatch.setattr(bench, "load_timing", lambda folder: replace(timing, network=small))
    monkeypatch.setattr(bench, "processor_name", lambda: "Some CPU (R) 2.0 GHz")


def test_bench_prints_and_saves_tables_and_every_time(nsr, tmp_path):
    result = nsr(SMALL)
    assert result.code == 0, result.err
    stem = tmp_path / "results/bench/some-cpu-r-2-0-ghz-fp32-1-threads-batch2-channels8-size8-groups_4_2_4-rounds2"
    text, content = stem.with_suffix(".md").read_text(), json.loads(stem.with_suffix(".json").read_text())
    assert text in result.out and all(str(stem.with_suffix(end)) in result.out for end in (".md", ".json"))
    assert text == render(content, load_timing(package_folder("experiments")))
    assert content["setting"]["groups"] == [4, 2] and content["made"]["threads"] == 1
    assert {"torch", "commit", "cores", "device"} <= set(content["made"])
    forward, both, whole = content["seconds"].values()
    assert (len(forward), len(both), len(whole)) == (3 * 3 + 4 * 2, 3 * 2 + 4 * 2, 6)  # static of 8, 4, 2; sparse
    assert all(len(times) == 2 and min(times) > 0 for times in {**forward, **both, **whole}.values())
    for tables in content["tables"].values():
        assert [row["k"] for row in tables["fixed size"]] == ["N/A", 4, 2]
        assert [row["outputs"] for row in tables["fixed size"]] == [8, 2, 4]
        assert [row["outputs"] for row in tables["fixed FLOPs"]] == [8, 8, 8]
    assert [row["network"] for row in content["networks"]] == ["N/A", "softmax"]


def test_networks_through_a_compiler_are_others(nsr, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: torch.nn.Sequential(network))  # which takes no minutes
    result = nsr(f"{SMALL} compile=true")
    assert result.code == 0, result.err
    (path,) = (tmp_path / "results/bench").glob("*-compiletrue-*.json")
    rows = json.loads(path.read_text())["networks"]
    assert [row["network"] for row in rows] == ["N/A", "N/A, compiled", "softmax", "softmax, compiled"]
    assert all(f"| {row['network']}" in result.out for row in rows)


def test_networks_and_files_can_be_left_out(nsr, tmp_path):
    result = nsr(f"{SMALL} networks=false save=false precision=bf16")
    assert result.code == 0 and "Whole networks" not in result.out and "in bf16" in result.out
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_the_rebuttals_setting_under_a_short_name():
    config, timing = defaults(BENCH), load_timing(package_folder("experiments"))
    assert {name: config[name] for name in ("batch", "channels", "size")} == {
        name: timing.setting[name] for name in ("batch", "channels", "size")
    }
    for column in timing.printed.values():
        assert ["N/A", *config["groups"]] == list(column)
    name = bench.file_stem(OmegaConf.create(config), timing, "NVIDIA H200")
    assert name == f"nvidia-h200-fp32-{torch.get_num_threads()}-threads"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bench groups=4", "nsr bench: groups=4: expected a list in brackets, of a whole number above 0 each"),
        ("bench groups=[2,0]", "nsr bench: groups=[2,0]: expected a list in brackets"),
        ("bench groups=[]", "nsr bench: groups=[]: expected a list in brackets"),
        ("bench groups=[2,3]", "nsr bench: groups=[2, 3]: expected divisors of channels=64"),
        ("bench groups=[2,128]", "nsr bench: groups=[2, 128]: expected divisors of channels=64"),
        (
            "bench cardinality=8",
            "nsr bench: cardinality=8: expected 1 to 4, the output channels at fixed size and k = 16",
        ),
        ("bench batch=0", "nsr bench: batch=0: expected a whole number above 0"),
        ("bench rounds=0", "nsr bench: rounds=0: expected a whole number above 0"),
        ("bench size=1.5", "nsr bench: size=1.5: expected a whole number above 0"),
        ("bench precision=fp16", "nsr bench: precision=fp16: expected fp32"),
        ("bench networks=2", "nsr bench: networks=2: expected true or false"),
        ("bench device=tpu", "nsr bench: device=tpu: not on this machine; there are: auto, cpu"),
        ("bench chanels=8", "nsr bench: no key 'chanels' (did you mean channels?); there are: batch, "),
        ("bench -m batch=1,2", "nsr bench: -m: one bench at a time"),
        ("ablate groups=[2,4]", "nsr ablate: groups=[2,4]: expected a whole number above 0"),
    ],
)
def test_one_line_exit_code_2_nothing_left(refused, line, message):
    refused(line, message)
