"""The timing table from made-up numbers."""

import json

import pytest

from nsr_cli.bench.timings import FLOPS, SIZE, Timing, load_timing, milliseconds, output_channels, render, row_of
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import table_names

TIMING = Timing(
    title="Speed",
    text="What it is.",
    setting={"batch": 100, "channels": 64, "size": 64, "kernel": 3},
    printed={SIZE: {"N/A": "1.96", 4: "0.77"}, FLOPS: {"N/A": "1.96", 4: "2.12"}},
    printed_for="Forward",
    network={
        "scale": 2,
        "blocks": 4,
        "units": 32,
        "width": 4,
        "batch": 16,
        "patch": 48,
        "groups": 4,
        "cardinality": 16,
    },
    notes=("A note.",),
)
PLAIN = [0.2, 0.4, 0.2]  # the second round was slow for all
NARROW = {"contiguous": [0.1, 0.2, 0.1], "channels-last": [0.05, 0.1, 0.05], "per sample": [0.06, 0.12, 0.06]}
FULL = {"contiguous": PLAIN, "channels-last": [0.1, 0.2, 0.1], "per sample": [0.09, 0.18, 0.09]}


def measured(**setting) -> dict:
    na = row_of(0, 64, FULL, {}, PLAIN, "as groups")
    size = row_of(
        4, 16, NARROW, {"as groups": [0.08, 0.16, 0.08], "one by one": [0.09, 0.18, 0.09]}, PLAIN, "as groups"
    )
    flops = row_of(8, 64, FULL, {"as groups": [0.9, 0.9, 0.9], "one by one": [0.21, 0.42, 0.21]}, PLAIN, "one by one")
    used = {"batch": 100, "channels": 64, "size": 64, "kernel": 3, "cardinality": 1, "precision": "fp32", "rounds": 3}
    tables = {SIZE: [na, size], FLOPS: [na, flops]}
    network = {"forward": {"seconds": 0.1, "of N/A": 1.0}, "training step": {"seconds": 0.4, "of N/A": 1.25}}
    return {
        "setting": used | setting,
        "network": TIMING.network,
        "made": {"device": "A CPU", "torch": "9.9", "threads": 1, "cores": 4},
        "tables": {"Forward": tables, "Forward and backward": tables},
        "networks": [{"network": "softmax", **network}],
    }


def tables_of(text: str) -> dict[str, list[list[str]]]:
    """Rows of cells by heading; the first row is the head."""
    tables: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        elif line.startswith("|") and not line.startswith("|:-"):
            tables.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return tables


def test_a_row_is_of_medians_the_way_that_is_taken_and_ratios_within_rounds():
    row = row_of(4, 16, NARROW, {"as groups": [0.3, 0.1, 0.1], "one by one": [0.2, 0.4, 0.2]}, PLAIN, "as groups")
    assert row["static"] == {"contiguous": 0.1, "channels-last": 0.05, "per sample": 0.06}
    assert (row["fastest static"], row["chosen"]) == ("channels-last", "as groups")
    assert row["of plain"] == pytest.approx(0.5)  # of 1.5, 0.25, 0.5
    assert row["of fastest static"] == pytest.approx(2)  # of 6, 1, 2


def test_without_sparse_groups_the_row_is_the_plain_convolutions():
    row = row_of(0, 64, FULL, {}, PLAIN, "as groups")
    assert (row["k"], row["of plain"], row["fastest static"]) == ("N/A", 1, "per sample")
    assert row["of fastest static"] == pytest.approx(0.2 / 0.09)


def test_measured_ratios_stand_beside_the_papers():
    tables = tables_of(render(measured(), TIMING))
    head, na, k4 = tables["Forward, fixed size"]
    assert head == [
        "k", "channels", "static, contiguous", "static, channels-last", "static, per sample", "sparse, as groups",
        "sparse, one by one", "of plain", "paper's", "of fastest static",
    ]  # fmt: skip
    assert na == ["N/A", "64 to 64", "2.00", "1.00", "**0.900**", "", "", "1.00", "1.00 (1.96)", "2.22"]
    assert k4 == [
        "4", "64 to 16", "1.00", "**0.500**", "0.600", "**0.800**", "0.900", "0.40", "0.39 (0.77)", "1.60",
    ]  # fmt: skip
    assert tables["Forward, fixed FLOPs"][2][5:] == ["9.00", "**2.10**", "1.05", "not printed", "2.33"]


def test_numbers_printed_for_forward_do_not_stand_beside_backward():
    tables = tables_of(render(measured(), TIMING))
    assert tables["Forward and backward, fixed size"][2][7:] == ["0.40", "1.60"]


def test_the_setting_and_the_machine_are_said():
    text = render(measured(), TIMING)
    assert "One 3x3 convolution of 64 channels, on batches of 100 samples of 64x64 pixels" in text
    assert "medians of 3 rounds," in text and "on A CPU, 4 cores, 1 thread, in fp32, with torch 9.9" in text
    assert "another setting" not in text and "TF32" not in text and "A note." in text
    other = render(measured(batch=2, size=8), TIMING)
    assert "**The printed times are of another setting: batch 100, size 64.**" in other


def test_whole_networks_have_a_table_where_they_were_timed():
    content = measured()
    assert tables_of(render(content, TIMING))["Whole networks"] == [
        ["network", "forward", "of N/A", "training step", "of N/A"],
        ["softmax", "100", "1.00", "400", "1.25"],
    ]
    assert "Whole networks" not in render(content | {"networks": []}, TIMING)


def test_the_json_file_alone_makes_the_same_table():
    assert render(json.loads(json.dumps(measured())), TIMING) == render(measured(), TIMING)


def test_both_columns_keep_what_they_are_called_after():
    for k in (2, 4, 8, 16):
        assert k * output_channels(SIZE, 64, k) == 64  # kernels in all
        assert output_channels(FLOPS, 64, k) == 64  # kernels that are convolved with
    assert output_channels(SIZE, 64, 0) == output_channels(FLOPS, 64, 0) == 64


@pytest.mark.parametrize(("seconds", "text"), [(0.0196, "19.6"), (0.1, "100"), (1.5, "1500"), (1.234e-6, "0.00123")])
def test_milliseconds_have_three_significant_digits(seconds, text):
    assert milliseconds(seconds) == text


def test_the_rebuttals_table_is_there_and_is_no_table_of_scores():
    timing = load_timing(package_folder("experiments"))
    assert timing.printed[SIZE] == {"N/A": "1.96", 2: "1.17", 4: "0.77", 8: "0.56", 16: "0.70"}  # DESIGN.md, section 5
    assert timing.printed[FLOPS] == {"N/A": "1.96", 2: "2.12", 4: "2.12", 8: "2.08", 16: "2.08"}
    assert "timing" not in table_names(package_folder("experiments"))
