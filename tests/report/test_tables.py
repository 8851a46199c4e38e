"""Tables as a pure function of an experiment and records."""

import shlex

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from nsr_cli.errors import UserError
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import Claim, Experiment, Row, load, names
from nsr_cli.report.tables import Cell, render

EXPERIMENTS = package_folder("experiments")

EXAMPLE = Experiment(
    name="tableX", title="Table X", text="What it is.", sweeps=["nsr ablate -m sparsity=none,softmax"],
    rows=[Row("N/A", "sparsity=none"), Row("Softmax", "sparsity=softmax", printed=34.87)],
    score="rgb", metric="psnr", printed_on="div2k_val", corner="Constraint", baseline="N/A",
    claims=[Claim("Softmax", "N/A")],
)  # fmt: skip


def record(psnr: float) -> dict:
    return {
        "scores": {"rgb": {"psnr": psnr}},
        "trained": {"steps": 300},
        "config": {"training": {"batch": 8}},
        "cost": {"macs": 300132.0, "overhead": 1500.0},
    }


def cell(label: str, psnr: float | None, seed: int = 0, benchmark: str = "div2k_val") -> Cell:
    return Cell(label, benchmark, seed, None if psnr is None else record(psnr), f"nsr ablate {label} seed={seed}")


def test_measured_stands_beside_printed():
    text = render(EXAMPLE, [cell("N/A", 34.761), cell("Softmax", 34.892)], "paper")
    rows = [[column.strip() for column in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["Constraint", "PSNR div2k_val", "over N/A", "printed (div2k_val)", "measured - printed"]
    assert rows[2] == ["N/A", "34.761", "", "not known", ""]
    assert rows[3] == ["Softmax", "34.892", "+0.131", "34.87", "+0.022"]
    assert "**protocol paper**, scored on div2k_val; seeds 0; trained for 300 steps of 8 patches" in text
    assert "0.3001 M multiply-accumulates of convolutions per input pixel, and up to 0.0015 M for gates" in text
    assert "- Softmax above N/A: +0.131 dB on div2k_val" in text
    assert "Missing" not in text and "other images" not in text


def test_missing_cells_are_shown_with_their_command():
    text = render(EXAMPLE, [cell("N/A", None), cell("Softmax", 34.892)], "paper")
    assert "| N/A          |" in text and "missing" in text
    assert "    nsr ablate N/A seed=0\n" in text
    assert "Softmax above" not in text  # no claim from half of the numbers


def test_seeds_give_mean_and_deviation():
    cells = [cell("N/A", 30.0, 0), cell("N/A", 30.2, 1), cell("Softmax", 31.0, 0), cell("Softmax", 31.0, 1)]
    text = render(EXAMPLE, cells, "paper")
    assert "30.100 ± 0.141" in text and "+0.900" in text and "seeds 0, 1" in text


def test_other_images_than_the_printed_ones_are_said():
    cells = [cell(label, 30, benchmark="embedded_val") for label in ("N/A", "Softmax")]
    text = render(EXAMPLE, cells, "smoke")
    assert "other images than the printed numbers (div2k_val)" in text and "compare the gains" in text


def test_an_unknown_table_is_named():
    with pytest.raises(UserError, match=r"^no table '9'; there are: 1"):
        load(EXPERIMENTS, "9")


def swept(experiment: Experiment) -> set[frozenset[str]]:
    """The cells that an experiment's command lines make, expanded by Hydra's own sweeper."""
    cells = []
    for line in experiment.sweeps:
        program, verb, *overrides = shlex.split(line)
        assert (program, verb) == ("nsr", experiment.verb)
        parsed = OverridesParser.create().parse_overrides([o for o in overrides if o != "-m"])
        cells += [frozenset(job) for job in BasicSweeper.split_arguments(parsed, None)[0]]
    assert len(cells) == len(set(cells))
    return set(cells)


@pytest.mark.parametrize("name", names(EXPERIMENTS))
def test_the_sweeps_of_an_experiment_make_exactly_its_cells(name):
    experiment = load(EXPERIMENTS, name)
    assert swept(experiment) == {frozenset(shlex.split(row.cell)) for row in experiment.rows}


@pytest.mark.parametrize("name", names(EXPERIMENTS))
def test_claims_and_baseline_speak_of_rows_that_exist(name):
    experiment = load(EXPERIMENTS, name)
    labels = {row.label for row in experiment.rows}
    assert experiment.baseline in labels
    assert all({claim.better, claim.worse} <= labels for claim in experiment.claims)
