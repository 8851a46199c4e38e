"""nsr table on runs of a second: which seeds it shows, what it fills, and what damage it names."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from kept import records

from nsr_cli.data.images import write_png
from nsr_cli.ops.resize import imresize
from nsr_cli.runs.record import read_record
from nsr_cli.runs.spec import Spec


@pytest.fixture
def two_rows(tmp_path, tiny) -> Path:
    """`nsr table mine.yaml`, of two rows."""
    rows = [{"label": gate, "command": f"nsr ablate sparsity={gate} {tiny}"} for gate in ("none", "softmax")]
    return table(tmp_path, {"rows": rows, "baseline": "none", "printed_on": "div2k_val"})


def table(folder: Path, content: dict) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "Mine", "text": "A text.", "corner": "Gate", **content}))
    return path


def cells(out: str) -> dict[str, list[str]]:
    """The cells of each row of a Markdown table, by the row's label."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    return {label: row for label, *row in lines[2:]}


def test_it_shows_missing_cells_then_fills_them_and_nothing_else(nsr, tmp_path, trained, tiny, two_rows):
    shown = nsr("table mine.yaml")
    assert shown.code == 0, shown.err
    psnr = trained.scores["rgb"].means["psnr"]
    assert [row[0] for row in cells(shown.out).values()] == ["missing", f"{psnr:.3f}"]
    command = f"nsr ablate -m sparsity=none {tiny} protocol=smoke seed=0 benchmarks=[embedded_val]"
    assert f"Missing; run=true runs these:\n\n    {command}\n" in shown.out and "sparsity=softmax" not in shown.out
    assert (tmp_path / "results/tables/smoke/mine.md").read_text() in shown.out

    filled = nsr("table mine.yaml run=true")
    assert filled.code == 0 and filled.out.count("1 training and 1 score to make") == 1, filled.err
    (other,) = (r for r in map(read_record, records(tmp_path)) if r.signature != trained.signature)
    expected = [f"{other.scores['rgb'].means['psnr']:.3f}", f"{psnr:.3f}"]
    shown_again = filled.out.rpartition("## Mine")[2]  # it was shown as it was before the training, too
    assert [row[0] for row in cells(shown_again).values()] == expected and "Missing" not in shown_again
    assert cells((tmp_path / "results/tables/smoke/mine.md").read_text()) == cells(shown_again)

    again = nsr("table mine.yaml run=true")
    assert again.code == 0 and "training" not in again.out and cells(again.out) == cells(shown_again)


def test_a_table_of_fewer_seeds_does_not_replace_the_one_of_all(nsr, tmp_path, tiny, trained, two_rows):
    tables = tmp_path / "results/tables/smoke"
    assert nsr(f"ablate -m sparsity=none,softmax seed=0,3 {tiny}").code == 0
    shown = nsr("table mine.yaml")
    assert "; seeds 0, 3;" in shown.out and str(tables / "mine.md") in shown.out
    of_all = (tables / "mine.md").read_text()

    fewer = nsr("table mine.yaml seeds=[3]")
    assert fewer.code == 0 and "Not shown, though there are records: seed 0; seeds=[0,3] shows all\n" in fewer.out
    assert str(tables / "mine-seed-3.md") in fewer.out and "; seeds 3;" in (tables / "mine-seed-3.md").read_text()
    assert (tables / "mine.md").read_text() == of_all

    assert nsr(f"ablate sparsity=none seed=5 {tiny}").code == 0  # of the other row there is none
    partly = nsr("table mine.yaml")
    assert "Not shown, though there are records: seed 5; seeds=[0,3,5] shows all\n" in partly.out
    assert (tables / "mine.md").read_text() == of_all

    more = nsr("table mine.yaml seeds=[0,3,5]")
    assert "(2 of 3 seeds)" in more.out and str(tables / "mine.md") in more.out and "Not shown" not in more.out


def edited(text: str) -> str:
    content = json.loads(text)
    content["scores"]["rgb"]["psnr"] += 1
    return json.dumps(content, indent=1)


@pytest.mark.parametrize(
    "damage",
    [
        edited,
        lambda text: text.replace('"psnr": ', '"psnr": NaN, "x": ', 1),
        lambda text: text.replace('"psnr": ', '"psnr": 1e400, "x": ', 1),
        lambda text: text.replace('"psnr": ', '"psnr": "many", "x": ', 1),
        lambda text: text.replace('"format": 2', '"format": 1'),
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "",
    ],
    ids=["edited", "NaN", "1e400", "text", "another format", "torn", "a list", "empty"],
)
def test_a_damaged_record_is_named_shown_as_missing_and_made_again(nsr, tmp_path, trained, tiny, two_rows, damage):
    (path,) = records(tmp_path)
    path.write_text(damage(path.read_text()))
    shown = nsr("table mine.yaml")
    assert shown.code == 0 and cells(shown.out)["softmax"][0] == "missing", shown.err
    assert f"Damaged, and so missing: {path}: " in shown.out
    assert f"    nsr ablate -m sparsity=softmax {tiny} protocol=smoke seed=0" in shown.out
    made = nsr(f"ablate {tiny}")
    assert made.code == 0 and f"{path} counts as missing: " in made.out and "training" not in made.out
    assert read_record(path).scores == trained.scores
    assert "Damaged" not in nsr("table mine.yaml").out


def test_a_record_of_another_run_in_its_place_is_not_shown(nsr, tmp_path, trained, tiny, two_rows):
    assert nsr(f"ablate sparsity=none {tiny}").code == 0
    (path,) = (p for p in records(tmp_path) if read_record(p).signature == trained.signature)
    (other,) = (p for p in records(tmp_path) if p != path)
    path.write_bytes(other.read_bytes())
    shown = nsr("table mine.yaml").out
    assert cells(shown)["softmax"][0] == "missing" and f"{path}: it is another run's" in shown


@pytest.mark.parametrize("metrics", ["ssim8", "ssim"])
def test_a_metric_that_the_table_shows_is_missing_where_the_record_lacks_it(nsr, tmp_path, metrics):
    """A record without it once counted as complete."""
    command = "nsr eval model=bicubic benchmarks=[embedded_val]"
    table(tmp_path, {"rows": [{"label": "Bicubic", "command": command}], "metrics": ["psnr", metrics]})
    assert nsr("eval").code == 0
    lacks = "Missing" in nsr("table mine.yaml").out
    assert lacks == (metrics == "ssim8")
    filled = nsr("table mine.yaml run=true")
    means = read_record(records(tmp_path)[0]).scores["rgb"].means
    assert cells(filled.out)["Bicubic"][0] == f"{means['psnr']:.2f} / {means[metrics]:.4f}".replace(" 0.", " .")
    assert "Missing" not in filled.out


def test_a_metric_that_the_table_does_not_show_leaves_it_as_it_is(nsr, tmp_path):
    command = "nsr eval model=bicubic benchmarks=[embedded_val]"
    table(tmp_path, {"rows": [{"label": "Bicubic", "command": command}]})
    shown = []
    for metrics in ("", "metrics=[ssim8]"):
        assert nsr(f"eval {metrics}").code == 0
        shown.append(nsr("table mine.yaml").out)
    assert "ssim8" in read_record(records(tmp_path)[0]).scores["rgb"].means and shown[0] == shown[1]


def test_the_table_and_the_verb_agree_when_official_low_resolution_images_appear(nsr, tmp_path):
    """The table once kept the score of our bicubic, where ``nsr eval`` scored again."""
    rng = np.random.default_rng(0)
    truth = imresize(rng.integers(0, 256, (8, 9, 3)).astype(np.uint8), 8.0)
    write_png(tmp_path / "DIV2K_valid_HR/0801.png", truth)
    command = "nsr eval model=bicubic benchmarks=[./DIV2K_valid_HR]"
    table(tmp_path, {"rows": [{"label": "Bicubic", "command": command}]})
    assert nsr(command.removeprefix("nsr ")).code == 0
    before = cells(nsr("table mine.yaml").out)["Bicubic"][0]
    write_png(tmp_path / "DIV2K_valid_LR_bicubic/X2/0801x2.png", np.full((32, 36, 3), 128, np.uint8))
    shown = nsr("table mine.yaml").out
    assert cells(shown)["Bicubic"][0] == "missing" and f"    {command.replace('eval', 'eval -m')}" in shown
    after = cells(nsr("table mine.yaml run=true").out)["Bicubic"][0]
    (record,) = map(read_record, records(tmp_path))
    assert record.official_low_resolution and float(after) < float(before) - 5
    time = records(tmp_path)[0].stat().st_mtime_ns
    assert f"{record.scores['rgb'].means['psnr']:.4f} dB" in nsr(command.removeprefix("nsr ")).out
    assert records(tmp_path)[0].stat().st_mtime_ns == time  # one answer: nothing is scored again


@pytest.mark.parametrize("described", ["{folders: mine, role: test}", "{folders: mine, role: test, count: 2}"])
def test_a_benchmark_of_ones_own_is_at_hand_with_a_count_and_without(nsr, tmp_path, described):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/datasets.yaml").write_text(f"mine: {described}\n")
    table(tmp_path, {"rows": [{"label": "Bicubic", "command": "nsr eval model=bicubic benchmarks=[mine]"}]})
    assert "Not on this machine, or not whole: mine (" in nsr("table mine.yaml").out
    for name in "ab":
        write_png(tmp_path / f"data/mine/{name}.png", np.full((48, 48, 3), 128, np.uint8))
    shown = nsr("table mine.yaml").out
    assert "Not on this machine" not in shown and "    nsr eval -m model=bicubic benchmarks=[mine]\n" in shown
    filled = nsr("table mine.yaml run=true")
    assert filled.code == 0 and len(records(tmp_path)) == 1, filled.err


def test_a_seed_of_which_a_record_is_damaged_is_shown(nsr, tmp_path, tiny, trained, two_rows):
    """The seed was left out, and its damaged record called one that is there."""
    assert nsr(f"ablate -m sparsity=none,softmax seed=0,3 {tiny}").code == 0
    (path,) = (
        p for p in records(tmp_path) if (r := read_record(p)).seed == 3 and r.spec["sparsity"]["gate"] == "softmax"
    )
    path.write_bytes(path.read_bytes()[:-100])
    shown = nsr("table mine.yaml").out
    assert "; seeds 0, 3;" in shown and "(1 of 2 seeds)" in cells(shown)["softmax"][0]
    assert f"Damaged, and so missing: {path}: " in shown and "Not shown" not in shown


def test_a_table_of_many_seeds_signs_each_run_once(nsr, tmp_path, monkeypatch):
    """A table of a thousand seeds spent most of its time on that."""
    (tmp_path / "results/records/smoke").mkdir(parents=True)
    known = {"signature": "5a", "spec": {"training": {"seed": 7}}}
    (tmp_path / "results/records/smoke/a.json").write_text(json.dumps(known))
    signed, content = [], Spec.content
    monkeypatch.setattr(Spec, "content", property(lambda spec: signed.append(repr(spec)) or content.fget(spec)))
    assert nsr("table 1 save=false protocol=smoke seeds=[7,8,9]").code == 0
    assert len(signed) == len(set(signed)) > 3


def test_a_table_that_cannot_be_saved_is_printed_all_the_same(nsr, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tables").touch()
    result = nsr("table 1 protocol=smoke")
    assert result.code == 1 and "| Uniform" in result.out
    assert result.err.count("\n") == 1 and "cannot be written (" in result.err and "save=false" in result.err
    assert nsr("table 1 protocol=smoke save=false").code == 0
