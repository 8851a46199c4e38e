"""nsr figure from the command line, on runs of a few steps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from kept import records

from nsr_cli.commands import figure
from nsr_cli.data.images import write_png
from nsr_cli.files import read_json_lines
from nsr_cli.report.experiments import Experiment, Line
from nsr_cli.runs.record import read_record

GATED = "groups=2 cardinality=2"


def drawn(tmp_path: Path, name: str) -> dict[str, bytes]:
    """The figure's files, by ending."""
    return {path.suffix: path.read_bytes() for path in (tmp_path / "results/figures/smoke").glob(f"{name}.*")}


def small(tiny: str, name: str, columns: bool) -> Experiment:
    """An experiment of two rows, of runs of a second each."""
    depths = (Line("2 blocks", pick="blocks=1"), Line("4 blocks", pick="blocks=2")) if columns else ()
    tiny, sweep = (tiny.replace("blocks=1", "blocks=1,2"), "-m ") if columns else (tiny, "")
    rows = (
        Line("SE" if not columns else "N/A", f"nsr ablate {sweep}sparsity={'none' if columns else 'se'} {tiny}"),
        Line("2", f"nsr ablate {sweep}cardinality=2 {tiny}"),
        Line("1", f"nsr ablate {sweep}cardinality=1 {tiny}"),
    )
    return Experiment(name, f"{name}: a title", "A text.", rows, "k", depths, score="rgb", printed_on="div2k_val")


@pytest.mark.parametrize(("name", "columns"), [("figure4", False), ("table3", True)])
def test_what_is_measured_is_drawn_and_what_is_not_is_said(nsr, tmp_path, tiny, monkeypatch, name, columns):
    monkeypatch.setattr(figure, "load_experiment", lambda folder, stem: small(tiny, stem, columns))
    verb = f"figure {name.removeprefix('figure')}"
    nothing = nsr(verb)
    assert nothing.code == 2 and nothing.err.count("\n") == 1
    assert "nothing is measured yet at protocol smoke; run=true, or nsr ablate -m " in nothing.err
    assert list(tmp_path.iterdir()) == []

    assert (
        nsr(f"ablate {'-m ' * columns}cardinality=2 {tiny.replace('blocks=1', 'blocks=1,2') if columns else tiny}").code
        == 0
    )
    result = nsr(verb)
    assert result.code == 0, result.err
    assert str(tmp_path / f"results/figures/smoke/{name}.png") in result.out and "Missing; run=true runs" in result.out
    assert result.out.count("    nsr ablate -m ") == 2  # one for each row that is not there
    files = drawn(tmp_path, name)
    assert set(files) == {".png", ".pdf"} and len(files[".png"]) > 10_000
    assert nsr(verb).code == 0 and drawn(tmp_path, name) == files  # the same bytes

    result = nsr(f"{verb} run=true")
    assert result.code == 0 and "Missing" not in result.out, result.err
    assert drawn(tmp_path, name) != files


def test_the_heading_counts_missing_values(nsr, tiny, monkeypatch):
    headings = []
    monkeypatch.setattr(figure, "load_experiment", lambda folder, stem: small(tiny, stem, columns=False))
    monkeypatch.setattr(figure.plots, "against_cardinality", lambda panels, heading: headings.append((panels, heading)))
    monkeypatch.setattr(figure, "save", lambda figure, stem: [])
    assert nsr(f"ablate cardinality=2 {tiny}").code == 0
    assert nsr("figure 4 seeds=[0,1]").code == 0
    ((panels, heading),) = headings
    assert heading.startswith("figure4: a title\nprotocol smoke, seeds 0, 1: mean and standard deviation")
    assert heading.endswith("; 5 of 6 values are missing")
    assert {row: len(psnr) for row, psnr in panels["embedded_val"].items()} == {"SE": 0, "2": 1, "1": 0}


def test_figure_5_trains_what_is_missing_and_repeats_to_the_byte(nsr, tmp_path, tiny):
    line = f"""figure 5 "runs=['{GATED} {tiny}']" image=chelsea.png """
    missing = nsr(line)
    assert missing.code == 2 and "no weights in " in missing.err
    assert f"run=true makes them, or nsr ablate {GATED} {tiny} protocol=smoke seed=0 weights=true" in missing.err
    assert list(tmp_path.iterdir()) == []
    result = nsr(f"{line} run=true")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "results/runs").iterdir()
    files = drawn(tmp_path, f"figure5-{run.name}")
    assert set(files) == {".png", ".pdf"} and len(files[".png"]) > 50_000
    assert nsr(line).code == 0 and drawn(tmp_path, f"figure5-{run.name}") == files


def test_hard_inference_is_compared_as_it_is_scored(nsr, tiny, monkeypatch):
    from nsr_cli.report import pictures

    shown, draw = [], pictures.side_by_side
    monkeypatch.setattr(pictures, "side_by_side", lambda panels, *how: shown.extend(panels) or draw(panels, *how))
    runs = [f"{GATED} {tiny}", f"{GATED} {tiny} inference=hard"]
    for run in runs:
        assert nsr(f"ablate {run}").code == 0
    result = nsr(f"""figure compare "runs={runs}" image=chelsea.png""")
    assert result.code == 0, result.err
    soft, hard = shown[2:4]
    assert "hard" in hard.title and not np.array_equal(soft.picture, hard.picture)


def test_a_network_that_reads_luma_is_compared_as_it_is_scored(nsr, tmp_path, monkeypatch):
    """On a benchmark of datasets.yaml in the figure's own folder of data."""
    from nsr_cli.report import pictures

    shown, draw = [], pictures.side_by_side
    monkeypatch.setattr(pictures, "side_by_side", lambda panels, *how: shown.extend(panels) or draw(panels, *how))
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    write_png(tmp_path / "elsewhere/mine/a.png", picture)
    (tmp_path / "elsewhere/datasets.yaml").write_text("mine: {folders: mine, role: test}\n")
    run = "model=vdsr +model.network.layers=3 +model.network.width=4 sparsity=none steps=6 batch=2 benchmarks=[mine]"
    run += " threads=1"
    trained = nsr(f"ablate {run} data=elsewhere")
    assert trained.code == 0, trained.err
    result = nsr(f"""figure compare "runs=['{run}']" data=elsewhere crop=32""")
    assert result.code == 0, result.err
    (record,) = map(read_record, records(tmp_path))
    assert f"{record.scores['rgb'].means['psnr']:.2f} dB" == shown[2].score


@pytest.mark.parametrize("run", ["sparsity=none", "model=edsr sparsity=softmax"])
def test_figure_5_needs_gates(nsr, tmp_path, run):
    result = nsr(f"""figure 5 "runs=['{run}']" run=true""")
    assert result.code == 2
    assert result.err == f"nsr figure: runs=[{run}]: its network has no blocks with gates to show\n"
    assert list(tmp_path.iterdir()) == []


def test_training_curves_of_what_was_trained(nsr, tmp_path, tiny):
    nothing = nsr("figure curves")
    assert (
        nothing.code == 2
        and "none of these runs was trained here; run=true, or nsr ablate sparsity=none" in nothing.err
    )
    assert nothing.err.count("nsr ablate") == 6  # the rows of Table 1
    assert nsr(f"ablate sparsity=none {tiny} steps=120").code == 0
    line = f"""figure curves "runs=['sparsity=none {tiny} steps=120','sparsity=se {tiny}']" """
    result = nsr(line)
    assert result.code == 0, result.err
    assert f"    nsr ablate sparsity=se {tiny} protocol=smoke seed=0 weights=true" in result.out
    files = drawn(tmp_path, "curves*")
    assert set(files) == {".png", ".pdf"}
    assert nsr(line).code == 0 and drawn(tmp_path, "curves*") == files
    stats = next((tmp_path / "results/runs").glob("*/stats.jsonl"))
    first = json.loads(stats.read_text().splitlines()[0])
    odd = [{"loss": "x"}, {"loss": math.nan}, {"step": None}, {"psnr": "x"}, {"learning_rate": []}]
    damaged = [json.dumps(first | change) for change in odd] + ['{"step": 60}']
    stats.write_text("\n".join([*damaged, stats.read_text()]))
    assert nsr(line).code == 0 and drawn(tmp_path, "curves*") == files


def test_a_torn_line_of_statistics_ends_the_curve(tmp_path):
    lines = [json.dumps({"step": step, "loss": 0.1}) for step in (50, 100)]
    (tmp_path / "stats.jsonl").write_text("\n".join([*lines, '{"step": 150, "lo']))
    assert [line["step"] for line in read_json_lines(tmp_path / "stats.jsonl")] == [50, 100]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "figure 5 \"runs=['sparsty=softmax']\"",
            "nsr figure: runs=[sparsty=softmax]: no key 'sparsty' (did you mean sparsity?)",
        ),
        (
            "figure 5 \"runs=['seed=1']\"",
            "nsr figure: runs=[seed=1]: seed is the figure's own; expected seeds=... beside runs",
        ),
        ("figure 6", "nsr figure: no figure '6'; there are: 4, 5, compare, curves, table2, table3\n"),
        ("figure curve", "nsr figure: no figure 'curve' (did you mean curves?); there are: "),
        (
            "figure 4 hydra/launcher=basic",
            "nsr figure: 4: nothing is measured yet at protocol smoke; run=true, or nsr ",
        ),
        ("figure 4 protocol=paper", "nsr figure: 4: nothing is measured yet at protocol paper; nsr data get div2k_val"),
        (
            "figure 5 image=dog.png",
            "nsr figure: image=dog.png: not in embedded_val; there are: chelsea.png, rocket.jpg",
        ),
        ("figure 5 protocol=paper", "nsr figure: DIV2K validation images: "),
        ("figure 5 \"runs=['groups=0']\"", "nsr figure: groups=0: expected a whole number above 0"),
        ("figure curves runs=[]", "nsr figure: runs=[]: expected a list of overrides"),
        ("figure curves seeds=[0,1]", "nsr figure: seeds=[0,1]: this figure shows runs of one seed; expected it alone"),
        ("figure compare seed=1", "nsr figure: no key 'seed' (did you mean seeds?); there are: "),
        ("figure 4 -m seeds=0,1", "nsr figure: -m: one figure at a time; several seeds are seeds=[0,1,2]"),
    ],
)
def test_one_line_exit_code_2_nothing_left(refused, line, message):
    refused(line, message)
