"""Plots from made-up numbers: what is drawn, what is said, and that nothing covers anything."""

import re
from pathlib import Path

import pytest
from overlaps import assert_apart

from nsr_cli.errors import UserError
from nsr_cli.report import figures
from nsr_cli.report.figures import save
from nsr_cli.report.plots import Point, against_cardinality, against_cost, curves_figure, line_style, smoothed

HEADING = "Figure X: what it shows of sparsity and of cardinality (x2, k = 4)\nprotocol short, seeds 0, 1, 2; a note"
LABELS = ("N/A", "Gumbel-softmax", "Sigmoid", "Softmax, tau = 0.1", "Softmax, tau = 1", "Softmax, tau = 10")


def cardinalities() -> dict[str, list[float]]:
    sparse = {str(d): [31 + 0.01 * d, 31.02 + 0.01 * d] for d in (16, 1, 2, 8)}
    return {"N/A": [30.9, 31.0], "SE": [31.05, 31.07], "4": [], **sparse}


def costs() -> dict[str, list[Point]]:
    return {
        f"k = {k}": [Point(66_000 * 2**i, 50_000 * k * 2**i, [31 + 0.2 * i, 31.1 + 0.2 * i]) for i in range(4)]
        for k in (1, 2, 4, 8, 16)
    }


def training(psnr: bool) -> list[dict]:
    lines = []
    for step in range(50, 2001, 50):
        rate = 1e-3 * 0.2 ** ((step > 1333) + (step > 1667))
        lines.append({"step": step, "loss": 0.02 + 1 / step, "learning_rate": rate, "steps_per_second": 9.0})
        if psnr and step % 500 == 0:
            lines[-1]["psnr"] = 31 - 100 / step
    return lines


def trainings(psnr: bool = True) -> dict[str, list[dict]]:
    return {label: training(psnr) for label in LABELS}


def lines_of(axis) -> dict[str, list]:
    """(x, y) of the lines that have a label."""
    return {label: list(zip(*drawn_line(h).get_data(), strict=True)) for h, label in legend_of(axis)}


def drawn_line(handle):
    return handle.lines[0] if hasattr(handle, "lines") else handle


def legend_of(axis) -> list[tuple]:
    return list(zip(*axis.get_legend_handles_labels(), strict=True))


def test_psnr_against_cardinality():
    figure = against_cardinality({"b100": cardinalities(), "div2k_val": cardinalities()}, HEADING)
    assert [axis.get_ylabel() for axis in figure.axes] == ["PSNR in RGB on b100 [dB]", "PSNR in RGB on div2k_val [dB]"]
    axis = figure.axes[0]
    assert axis.get_xlabel().startswith("cardinality d") and axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    lines = lines_of(axis)
    assert lines["sparse, softmax"] == [(d, pytest.approx(31.01 + 0.01 * d)) for d in (1, 2, 8, 16)]  # no seed of d = 4
    assert [y for _, y in lines["SE"]] == [pytest.approx(31.06)] * 2 and drawn_line(legend_of(axis)[1][0])
    bars = axis.containers[0].lines[2][0].get_segments()
    assert bars[0][1][1] - bars[0][0][1] == pytest.approx(2 * 0.01 * 2**0.5)  # twice the deviation of two numbers


def test_one_seed_has_no_error_bars():
    figure = against_cardinality({"b100": {"1": [31.0], "2": [31.1], "SE": [31.2]}}, HEADING)
    assert not figure.axes[0].containers[0].has_yerr
    figure = against_cost({"k = 2": [Point(1e5, 10_000, [31.0])]}, "b100", HEADING)
    assert not figure.axes[0].containers[0].has_yerr


def test_psnr_against_both_costs():
    figure = against_cost(costs(), "b100", HEADING)
    macs, parameters = figure.axes
    assert macs.get_xlabel() == "multiply-accumulates per input pixel [millions]"
    assert parameters.get_xlabel() == "parameters [millions]" and macs.get_ylabel() == "PSNR in RGB on b100 [dB]"
    expected = [31.05 + 0.2 * i for i in range(4)]
    assert lines_of(macs)["k = 4"] == [(pytest.approx(0.066 * 2**i), pytest.approx(expected[i])) for i in range(4)]
    assert lines_of(parameters)["k = 4"] == [(pytest.approx(0.2 * 2**i), pytest.approx(expected[i])) for i in range(4)]


def test_training_curves():
    figure = curves_figure(trainings(), HEADING)
    loss, validation = figure.axes
    assert loss.get_ylabel() == "L1 loss, running mean [grey levels of 255]"
    assert loss.get_xlabel() == validation.get_xlabel() == "training step"
    assert validation.get_ylabel() == "validation PSNR [dB]"
    assert lines_of(validation)["Sigmoid"] == [(s, pytest.approx(31 - 100 / s)) for s in (500, 1000, 1500, 2000)]
    assert [text.get_text().strip() for text in loss.texts] == ["learning rate 2e-04", "learning rate 4e-05"]
    assert [text.get_position()[0] for text in loss.texts] == [1300, 1650]
    assert lines_of(loss)["Sigmoid"][-1] == (2000, pytest.approx(255 * (0.02 + 1 / 2000), rel=1e-2))


def test_trainings_without_validation_have_one_panel():
    assert len(curves_figure(trainings(psnr=False), HEADING).axes) == 1


def test_the_running_mean():
    assert smoothed([1, 2, 6, 3], 1) == [1, 2, 6, 3]
    assert smoothed([1, 2, 6, 3], 3) == [1.5, 3, pytest.approx(11 / 3), 4.5]


FIGURES = {
    "one panel": lambda: against_cardinality({"b100": cardinalities()}, HEADING),
    "two panels": lambda: against_cardinality({"b100": cardinalities(), "div2k_val_crops": cardinalities()}, HEADING),
    "cost": lambda: against_cost(costs(), "div2k_val_crops", HEADING),
    "curves": lambda: curves_figure(trainings(), HEADING),
    "loss": lambda: curves_figure(trainings(psnr=False), HEADING),
    "long heading": lambda: curves_figure(trainings(), "a long heading " * 30),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_word_covers_another(name):
    assert_apart(FIGURES[name]())


def test_lines_differ_without_their_colours():
    for figure in (against_cost(costs(), "b100", HEADING), curves_figure(trainings(), HEADING)):
        lines = [drawn_line(handle) for handle, _ in legend_of(figure.axes[0])]
        assert len({line.get_marker() for line in lines}) == len(lines)
        assert len({str(line._dash_pattern) for line in lines}) == len(lines)
    assert len({str(line_style(number)) for number in range(42)}) == 42


@pytest.mark.parametrize("name", ["cost", "curves"])
def test_the_same_numbers_are_the_same_bytes(name, tmp_path):
    saved = [save(FIGURES[name](), tmp_path / turn / "plot") for turn in ("first", "second")]
    assert [path.name for path in saved[0]] == ["plot.png", "plot.pdf"]
    assert [path.read_bytes() for path in saved[0]] == [path.read_bytes() for path in saved[1]]
    png, pdf = (path.read_bytes() for path in saved[0])
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf and b"Software" not in png
    assert not re.findall(rb"/Subtype /Type3", pdf)  # fonts as most journals ask for them
    assert {path.name for path in Path(tmp_path / "first").iterdir()} == {"plot.png", "plot.pdf"}


def test_matplotlib_is_asked_for(monkeypatch):
    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^figures need matplotlib: pip install 'nsr\[figures\]'$"):
        figures.check_matplotlib()
