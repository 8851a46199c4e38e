"""Tables as a pure function of an experiment and records."""

import csv
import io
import re
from dataclasses import replace
from itertools import product

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from nsr_cli.engine.conventions import Convention
from nsr_cli.errors import UserError
from nsr_cli.folders import package_folder
from nsr_cli.report.claims import Claim
from nsr_cli.report.experiments import Experiment, Line, expand_command, experiment_of, load_experiment, table_names
from nsr_cli.report.tables import render
from nsr_cli.report.values import Cell, values_of
from nsr_cli.runs.record import Record, Score
from nsr_cli.runs.score import means

EXPERIMENTS = package_folder("experiments")
PROTOCOLS = ("paper", "short", "smoke")

EXAMPLE = Experiment(
    name="tableX",
    title="Table X",
    text="What it is.",
    rows=(
        Line("N/A", "nsr ablate sparsity=none"),
        Line("Softmax", "nsr ablate sparsity=softmax", printed={"div2k_val": "34.87"}),
    ),
    corner="Constraint",
    score="rgb",
    printed_on="div2k_val",
    baseline="N/A",
    claims=(Claim("softmax helps", ("N/A", "Softmax")),),
)
GRID = Experiment(
    name="tableY",
    title="Table Y",
    text="What it is.",
    rows=(
        Line(
            "Set5 x2", benchmark="set5", pick="scale=2", printed={"Bicubic": "33.66 .9299", "JPEG": "27.82 8x8 .7800"}
        ),
    ),
    columns=(
        Line("Bicubic", "nsr eval -m model=bicubic scale=2,3", flops="0.67", flops_per="output", note="A note."),
        Line("WNNM"),
        Line("JPEG", "nsr eval -m model=identity scale=2,3"),
        Line("Large", "nsr train -m model=edsr scale=2,3", protocols=("paper",)),
    ),
    corner="Benchmark",
    metrics=("psnr", "ssim", "ssim8"),
)
RGB = Convention("rgb", "rgb", rounded=True, measured="rgb", border=8)
LUMA = Convention("luma", "luma", rounded=False, measured="as given", border=2, metrics=("psnr", "ssim", "ssim8"))


def record(convention: Convention, images: dict[str, dict[str, float]], **more) -> Record:
    """Made up: a training of 300 steps, unless it says otherwise."""
    scores = {convention.name: Score(convention, means(images), images)}
    spec = {"task": {"name": "sr", "scale": 2}, "sparsity": {"gate": "none"}, "training": {"batch": 8, "seed": 0}}
    cost = {"macs": 300132.0, "overhead": 1500.0, "parameters": 25000}
    content = {"scores": scores, "spec": spec, "trained": {"steps": 300}, "cost": cost} | more
    return Record("wdsr-sr-5a", "5a", benchmark="div2k_val", made={}, **content)


def diverged() -> Record:
    return replace(record(RGB, {"a.png": {"psnr": 1.0}}), scores={}, diverged="the loss is nan at step 3")


def cell(label: str, psnr: float | None, seed: int = 0, benchmark: str = "div2k_val", odd: float = 0.0) -> Cell:
    """A cell of EXAMPLE; one of its images is ``odd`` dB better than the rest."""
    images = {f"{i}.png": {"psnr": psnr + i + odd * (i == 0)} for i in range(-2, 3)} if psnr else None
    return Cell(label, benchmark, benchmark, seed, images and record(RGB, images))


def scored(column: str, **scores: float) -> Cell:
    """A cell of GRID."""
    cost = {"macs": 4 * 664_704, "overhead": 0, "parameters": 664_704}
    return Cell("Set5 x2", column, "set5", 0, record(LUMA, {"a.png": scores}, trained=None, cost=cost))


def test_measured_stands_beside_printed():
    text = render(EXAMPLE, [cell("N/A", 34.761), cell("Softmax", 34.892)], "paper")
    rows = [[column.strip() for column in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["Constraint", "PSNR div2k_val", "over N/A", "printed (div2k_val)", "measured - printed"]
    assert rows[2] == ["N/A", "34.761", "", "not printed", ""]
    assert rows[3] == ["Softmax", "34.892", "+0.131", "34.87", "+0.022"]
    assert "**protocol paper**, scored on div2k_val; seeds 0; trained for 300 steps of 8 patches" in text
    assert "0.3001 M multiply-accumulates of convolutions per input pixel, and up to 0.0015 M for gates" in text
    claim = table_of(text)[-1]
    assert claim[:4] == ["**undecided**: softmax helps", "div2k_val", "Softmax - N/A", "+0.131"]
    assert claim[-1] == "undecided: 1 seed, 3 needed"
    assert "Missing" not in text and "other images" not in text


def table_of(text: str) -> list[list[str]]:
    return [[place.strip() for place in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_missing_cells_are_said_and_claims_need_both_sides():
    text = render(EXAMPLE, [cell("N/A", None), cell("Softmax", 34.892)], "paper")
    assert table_of(text)[2][:2] == ["N/A", "missing"]
    assert table_of(text)[-1][3:] == ["", "0", "", "", "undecided: not measured"]


def test_methods_side_by_side_with_the_printed_digits():
    cells = [
        scored("Bicubic", psnr=33.6615, ssim=0.92988),
        scored("JPEG", psnr=27.8311, ssim=0.7595, ssim8=0.78004),
    ]
    text = render(GRID, cells, "smoke")
    head, _, flops, row = table_of(text)
    assert head == [
        "Benchmark",
        "Bicubic",
        "printed",
        "WNNM",
        "printed",
        "JPEG",
        "printed",
    ]  # Large is the paper's alone
    assert flops[1:3] == ["0.66", "0.67"]  # per pixel of the output, as the paper counts it
    assert row == [
        "Set5 x2", "33.66 / .9299", "33.66 / .9299", "", "", "27.83 / .7595 / .7800 (+0.01)", "27.82 / .7800",
    ]  # fmt: skip
    assert "Bicubic: A note." in text
    assert "- Bicubic, JPEG: reads luma, degraded image not rounded" in text and "border = scale" in text


def test_csv_has_every_digit_and_both_kinds_of_ssim():
    cells = [scored("JPEG", psnr=27.8311, ssim=0.7595, ssim8=0.78004)]
    lines = list(csv.DictReader(io.StringIO(render(GRID, cells, "smoke", "csv"))))
    jpeg = {line["metric"]: line for line in lines if line["column"] == "JPEG"}
    assert float(jpeg["PSNR"]["measured"]) == 27.8311 and jpeg["PSNR"]["printed"] == "27.82"
    assert float(jpeg["SSIM 8x8"]["difference"]) == pytest.approx(0.00004)
    assert jpeg["SSIM"]["printed"] == "" and float(jpeg["SSIM"]["measured"]) == 0.7595
    assert {line["measured"] for line in lines if line["column"] == "Bicubic"} == {""}


def test_latex_is_a_booktabs_table():
    text = render(EXAMPLE, [cell("N/A", 34.761), cell("Softmax", 34.892)], "paper", "latex")
    assert "\\toprule" in text and "34.892" in text and text.startswith("% Table X")
    grid = render(GRID, [scored("JPEG", psnr=27.8, ssim=0.7, ssim8=0.7)], "smoke", "latex")
    behind = grid.partition("\\end{tabular}")[2].strip().splitlines()
    assert behind and all(line.startswith("%") for line in behind)


def test_a_bar_in_a_label_is_no_border():
    claims = (Claim("|x| helps", ("N/A", "|x|")),)
    example = replace(EXAMPLE, rows=(EXAMPLE.rows[0], Line("|x|", "nsr ablate")), claims=claims)
    cells = [cell("N/A", 34.0), cell("|x|", 34.2)]
    text = render(example, cells, "paper")
    assert r"| \|x\|" in text and r"**undecided**: \|x\| helps" in text and r"| \|x\| - N/A " in text
    borders = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert borders == [6] * 4 + [9] * 3
    assert re.search(r"\|x\| +&", render(example, cells, "paper", "latex"))


def test_seeds_give_mean_and_deviation():
    cells = [cell("N/A", 30.0, 0), cell("N/A", 30.2, 1), cell("Softmax", 31.0, 0), cell("Softmax", 31.0, 1)]
    text = render(EXAMPLE, cells, "paper")
    assert "30.100 ± 0.141" in text and "+0.900" in text and "seeds 0, 1" in text


def test_seeds_that_lack_are_counted_and_gains_are_over_those_of_both():
    cells = [cell("N/A", 30.0, 0), cell("N/A", 31.0, 1), cell("Softmax", 30.5, 0), cell("Softmax", None, 1)]
    body = table_of(render(EXAMPLE, cells, "paper"))
    assert body[2][1] == "30.500 ± 0.707" and body[3][1:3] == ["30.500 (1 of 2 seeds)", "+0.500"]


def test_a_cell_whose_run_diverged_says_so():
    cells = [cell("N/A", 30.0, 0), Cell("Softmax", "div2k_val", "div2k_val", 0, diverged())]
    assert table_of(render(EXAMPLE, cells, "paper"))[3][1:3] == ["diverged", ""]
    cells = [*cells, cell("N/A", 30.0, 1), cell("Softmax", 30.1, 1)]
    assert table_of(render(EXAMPLE, cells, "paper"))[3][1:3] == ["30.100 (1 of 2 seeds, 1 diverged)", "+0.100"]
    grid = [Cell("Set5 x2", "Bicubic", "set5", 0, diverged())]
    assert "diverged" in table_of(render(GRID, grid, "smoke"))[3]
    assert "1" in [line["diverged"] for line in csv.DictReader(io.StringIO(render(GRID, grid, "smoke", "csv")))]


def test_verdicts_stand_under_the_table():
    gains = [cell("Softmax", 30.1 + 0.003 * s, s, odd=0.01) for s in range(3)]  # else there is nothing to test
    cells = [cell("N/A", 30.0, s) for s in range(3)] + gains
    claim = table_of(render(EXAMPLE, cells, "paper"))[-1]
    assert claim == [
        "**holds**: softmax helps", "div2k_val", "Softmax - N/A", "+0.105 ± 0.003", "0", "< 0.001", "< 0.001", "holds",
    ]  # fmt: skip


def test_a_verdict_says_what_diverged():
    cells = [cell("N/A", 30.0, s) for s in range(3)] + [cell("Softmax", 30.1, s) for s in range(2)]
    cells.append(Cell("Softmax", "div2k_val", "div2k_val", 2, diverged()))
    assert table_of(render(EXAMPLE, cells, "paper"))[-1][-1] == "undecided: 2 seeds, 3 needed, 1 of Softmax diverged"


CONTROLLED = replace(
    EXAMPLE,
    rows=(*EXAMPLE.rows, Line("Uniform", "nsr ablate sparsity=uniform", control=True)),
    own_claims=(Claim("a gate is above uniform weights", ("Uniform", "Softmax")),),
    gates=True,
)


def gated(label: str, psnr: float, seed: int, **told: float) -> Cell:
    """A cell of two groups, of which the gates' statistics are told."""
    made = cell(label, psnr, seed)
    spec = made.record.spec | {"sparsity": {"gate": "softmax", "groups": 2}}
    return replace(made, record=replace(made.record, spec=spec, gates=told and {"body.0.conv1": told}))


def test_controls_stand_apart_with_claims_of_their_own():
    cells = [cell("N/A", 30.0), cell("Softmax", 30.1), cell("Uniform", 30.05)]
    paper, _, controls = render(CONTROLLED, cells, "paper").partition("### Controls, not in the paper")
    assert "Uniform" not in paper and "softmax helps" in paper and "uniform weights" not in paper
    head, _, row, *claims = table_of(controls)
    assert head == ["Constraint", "PSNR div2k_val", "over N/A"] and row == ["Uniform", "30.050", "+0.050"]
    assert claims[0][0] == "Our question" and claims[2][:4] == [
        "**undecided**: a gate is above uniform weights", "div2k_val", "Softmax - Uniform", "+0.050",
    ]  # fmt: skip


def test_a_column_may_be_a_control():
    columns = (Line("Sparse"), Line("Uniform", control=True))
    claim = Claim("a gate is above uniform weights", ("Uniform", "Sparse"))
    rows = (Line("Set5 x2", "nsr ablate", printed={"Sparse": "31.0"}),)
    grid = replace(GRID, rows=rows, columns=columns, claims=(), own_claims=(claim,), metrics=("psnr",))
    cells = [replace(cell("Set5 x2", psnr), column=name) for name, psnr in (("Sparse", 30.1), ("Uniform", 30.0))]
    paper, _, controls = render(grid, cells, "paper").partition("### Controls, not in the paper")
    assert table_of(paper)[0] == ["Benchmark", "Sparse", "printed"]
    head, _, row, *claims = table_of(controls)
    assert head[1:] == ["Uniform"] and row == ["Set5 x2", "30.00"]
    assert claims[2][:4] == [f"**undecided**: {claim.says}", "Set5 x2", "Sparse - Uniform", "+0.100"]


def test_what_the_gates_do_is_a_mean_over_layers_and_seeds():
    cells = [cell("N/A", 30.0), *(gated("Softmax", 30.1, s, groups=1.5 + s / 4, adaptivity=s / 4) for s in (0, 1))]
    _, _, told = render(CONTROLLED, cells, "paper").partition("### What the gates do")
    assert table_of(told)[2:3] == [["Softmax", "1.62 of 2, 0.125 bits"]]
    _, _, told = render(CONTROLLED, [gated("Softmax", 30.1, 0)], "paper").partition("### What the gates do")
    assert table_of(told)[2:3] == [["Softmax", "not measured"]]
    assert "What the gates do" not in render(CONTROLLED, [cell("N/A", 30.0)], "paper")


def test_columns_without_gates_are_not_among_what_the_gates_do():
    grid = replace(GRID, columns=(Line("Bicubic"), Line("Sparse")), claims=(), gates=True)
    cells = [replace(gated("Set5 x2", 31.0, 0, groups=1.5, adaptivity=0.25), column="Sparse")]
    cells = [replace(cell("Set5 x2", 30.0), column="Bicubic"), *cells]
    _, _, told = render(grid, cells, "paper").partition("### What the gates do")
    assert table_of(told)[::2] == [["", "Sparse"], ["Set5 x2", "1.50 of 2, 0.250 bits"]]


def test_a_claim_may_compare_columns_in_every_row():
    rows = tuple(Line(f"{depth} blocks", "nsr ablate", pick=f"blocks={depth}") for depth in (2, 4))
    columns = (Line("k = 1"), Line("k = 2"))
    claim = Claim("more groups are better", pairs=(("k = 1", "k = 2"),))
    grid = replace(GRID, rows=rows, columns=columns, claims=(claim,), metrics=("psnr",))
    cells = []
    for row, (column, gain), seed in product(rows, (("k = 1", 0.0), ("k = 2", 0.1)), range(3)):
        made = cell(row.label, 30 + gain * (1 + seed / 100), seed, odd=gain / 10)
        cells.append(replace(made, row=row.label, column=column))
    claims = table_of(render(grid, cells, "paper"))[-2:]
    assert claims[0][0] == "**holds**: more groups are better (2 of 2 steps hold)"
    assert [claim[1:3] for claim in claims] == [[row.label, "k = 2 - k = 1"] for row in rows]


def test_claims_on_rows_that_a_protocol_does_not_show_are_left_out():
    rows = (EXAMPLE.rows[0], replace(EXAMPLE.rows[1], protocols=("paper",)))
    text = render(replace(EXAMPLE, rows=rows), [cell("N/A", 30.0)], "smoke")
    assert "softmax helps" not in text


def test_a_claim_of_other_protocols_is_left_out():
    claim = Claim("softmax helps", ("N/A", "Softmax"), protocols=("paper",))
    cells = [cell(label, level, seed) for label, level in (("N/A", 30.0), ("Softmax", 31.0)) for seed in range(3)]
    for protocol in ("paper", "smoke"):
        text = render(replace(EXAMPLE, claims=(claim,)), cells, protocol)
        assert ("softmax helps" in text) == (protocol == "paper")


def test_differences_are_explained_only_where_there_are_some():
    grid = replace(GRID, printed_on="div2k_val")
    for experiment, shown in ((GRID, True), (grid, False)):
        assert (
            "Numbers in parentheses" in render(experiment, [scored("Bicubic", psnr=33.6, ssim=0.9)], "smoke")
        ) == shown


def test_scores_from_before_a_change_of_ones_own_code_are_named():
    changed = replace(cell("Softmax", 30.0), changed=("my_gate",))
    for form in ("markdown", "latex"):
        text = render(EXAMPLE, [cell("N/A", 30.0), changed], "smoke", form)
        assert "Scores from before a change of my_gate: Softmax." in text
    column = replace(scored("Bicubic", psnr=33.6, ssim=0.9), changed=("my_metric",))
    assert "Scores from before a change of my_metric: Bicubic." in render(GRID, [column], "smoke")


def test_gates_whose_weights_underflowed_are_left_out_of_the_mean():
    undefined = gated("Softmax", 30.1, 1, groups=None, adaptivity=None)
    _, _, told = render(
        CONTROLLED, [gated("Softmax", 30.1, 0, groups=1.5, adaptivity=0.25), undefined], "paper"
    ).partition("### What the gates do")
    assert table_of(told)[2:3] == [["Softmax", "1.50 of 2, 0.250 bits"]]
    _, _, told = render(CONTROLLED, [undefined], "paper").partition("### What the gates do")
    assert table_of(told)[2:3] == [["Softmax", "not measured"]]


def test_a_gain_over_a_baseline_without_training_is_over_all_seeds():
    """It was that of the first seed alone, for only that has a cell of the baseline."""
    base = replace(cell("N/A", 30.0, 0), trained=False)
    softmax = [cell("Softmax", 31.0 + s, s) for s in (0, 1, 2)]
    body = table_of(render(EXAMPLE, [base, *softmax], "paper"))
    assert body[2][1] == "30.000" and body[3][1:3] == ["32.000 ± 1.000", "+2.000"]
    turned = [replace(cell("Softmax", 30.0, 0), trained=False), *(cell("N/A", 31.0 + s, s) for s in (0, 1, 2))]
    assert table_of(render(EXAMPLE, turned, "paper"))[3][1:3] == ["30.000", "-2.000"]
    lacking = [replace(cell("N/A", None, 0), trained=False), *softmax]
    assert table_of(render(EXAMPLE, lacking, "paper"))[3][2] == ""


def test_csv_names_a_metric_of_ones_own_as_the_table_does():
    cells = [scored("JPEG", **{"psnr": 27.8, "my_metrics.lpips": 0.5})]
    text = render(replace(GRID, metrics=("psnr", "my_metrics.lpips")), cells, "smoke", "csv")
    assert "Set5 x2,JPEG,my_metrics.lpips,0.5," in text


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_a_score_that_a_record_lacks_is_named(form):
    with pytest.raises(UserError, match=r"^tableX: score=y: wdsr-sr-5a on div2k_val is scored by rgb$"):
        render(replace(EXAMPLE, score="y"), [cell("N/A", 30.0)], "paper", form)


def test_a_baseline_that_a_protocol_hides_is_named():
    hidden = replace(EXAMPLE, rows=(replace(EXAMPLE.rows[0], protocols=("paper",)), EXAMPLE.rows[1]))
    with pytest.raises(UserError) as refusal:
        list(hidden.slots("smoke"))
    said = "tableX: row 'N/A' (baseline) is not shown at protocol=smoke; there are: Softmax"
    assert str(refusal.value) == said and len(list(hidden.slots("paper"))) == 2


@pytest.mark.parametrize(
    ("word", "jobs"),
    [
        ("scale=2,3", ["scale=2", "scale=3"]),
        ("train={hr: a, lr: b}", ["train={hr: a, lr: b}"]),
        ("train={hr: a, lr: b},t91", ["train={hr: a, lr: b}", "train=t91"]),
        ("benchmarks=[set5,{hr: a, lr: b}],[set14]", ["benchmarks=[set5,{hr: a, lr: b}]", "benchmarks=[set14]"]),
    ],
)
def test_commas_in_brackets_make_no_sweep(word, jobs):
    assert expand_command(["train", "-m", word]) == ("train", [[job] for job in jobs])


def test_a_pair_of_folders_stands_beside_variables_in_a_command():
    row = Line("A", "nsr train 'train={hr: ./a, lr: ./b}' units={wide[1]} blocks={wide[0]}")
    mine = replace(EXAMPLE, rows=(row,), baseline=None, variables={"wide": {"smoke": [4, 8]}})
    assert mine.commands("smoke") == [["train", "train={hr: ./a, lr: ./b}", "units=8", "blocks=4"]]
    with pytest.raises(UserError, match=r"^tableX: no variable 'wid' in units=\{wid\}; there are: wide$"):
        replace(mine, rows=(Line("A", "nsr train units={wid}"),)).commands("smoke")


def test_a_pick_that_no_job_has_is_named():
    grid = replace(GRID, rows=(replace(GRID.rows[0], pick="scale=5"),), columns=GRID.columns[:1])
    said = "tableY: 0 jobs of 'nsr eval -m model=bicubic scale=2,3' have 'scale=5'; expected one for row 'Set5 x2'"
    with pytest.raises(UserError) as refusal:
        list(grid.slots("smoke"))
    assert str(refusal.value) == said


@pytest.mark.parametrize("stem", ["table1", "figure4"])
def test_a_table_of_ones_own_has_a_name_of_its_own(tmp_path, stem):
    (tmp_path / f"{stem}.yaml").write_text((EXPERIMENTS / "table1.yaml").read_text())
    with pytest.raises(UserError, match=rf"{stem}\.yaml: {stem} is a table of nsr, whose file this one would replace"):
        load_experiment(EXPERIMENTS, str(tmp_path / f"{stem}.yaml"))
    assert load_experiment(EXPERIMENTS, str(EXPERIMENTS / f"{stem}.yaml")).name == stem


CHAIN = replace(
    EXAMPLE,
    rows=tuple(Line(label, "nsr ablate", protocols=("paper",) if label == "B" else None) for label in "ABCD"),
    baseline=None,
    claims=(Claim("A is below B, B below C, and C below D", tuple("ABCD")),),
)


def test_a_hidden_row_takes_its_steps_with_it_and_no_other_is_tested_in_their_place():
    """A was compared with C, although the claim does not say so of them."""
    cells = [cell(label, 30.0 + i + s / 100, s, odd=i) for i, label in enumerate("ABCD") for s in range(3)]
    (whole,) = table_of(render(CHAIN, cells, "paper"))[-1:]
    assert whole[0] == "**holds**: A is below B, B below C, and C below D (3 of 3 steps hold)"
    (part,) = table_of(render(CHAIN, [c for c in cells if c.row != "B"], "smoke"))[-1:]
    assert part[0].endswith("C below D (1 of 1 step hold, without B: not shown)")
    assert part[2] == "D - C"


def test_a_row_that_is_hidden_at_the_end_of_an_order_is_named():
    """The claim was said to hold, with no word of what was not tested."""
    rows = (*CHAIN.rows[2:], replace(CHAIN.rows[1], label="E"))
    end = replace(CHAIN, rows=rows, claims=(Claim("rises", tuple("CDE")),))
    cells = [cell(label, 30.0 + i + s / 100, s, odd=i) for i, label in enumerate("CD") for s in range(3)]
    assert table_of(render(end, cells, "smoke"))[-1][0] == "**holds**: rises (1 of 1 step hold, without E: not shown)"


def test_there_is_no_gain_between_rows_that_were_scored_on_different_images():
    """It was the difference of means over different photographs."""
    rows = (Line("N/A", "nsr ablate"), Line("Softmax", "nsr ablate"))
    experiment = replace(EXAMPLE, rows=rows, baseline="N/A", claims=(), own_claims=())
    cells = [cell("N/A", 30.0, 0), cell("Softmax", 31.0, 0)]
    assert "+1.000" in render(experiment, cells, "smoke")
    cells[1].record.scores["rgb"].images["another.png"] = {"psnr": 31.0, "ssim": 0.9}
    assert "+1.000" not in render(experiment, cells, "smoke")


MINE = {"title": "t", "text": "x", "corner": "c", "rows": [{"label": label, "command": "nsr train"} for label in "ABC"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"claims": [{"says": "rises", "order": ["A", "b", "C"]}]},
            "mine: no row or column 'b' (claim 'rises'); there are: A, B, C, K",
        ),
        (
            {"own_claims": [{"says": "rises", "pairs": [["A", "B"], ["A", "c"]]}]},
            "mine: no row or column 'c' (claim 'rises'); there are: A, B, C, K",
        ),
        (
            {"claims": [{"says": "rises", "order": ["A", "K"]}]},
            "mine: claim 'rises' mixes rows and columns; expected labels of one kind",
        ),
        ({"baseline": "Z"}, "mine: no row 'Z' (baseline); there are: A, B, C"),
        ({"metrics": "psnr"}, "mine: metrics=psnr: expected a list"),
        ({"rows": 5}, "mine: rows=5: expected a list"),
        ({"rows": [{"label": 5}]}, "mine: label=5: expected a text"),
        ({"rows": [{"label": "A", "protocols": "smoke"}]}, "mine: protocols=smoke: expected a list"),
        ({"rows": [{"label": "A", "printed": ["1"]}]}, "mine: printed=['1']: expected keys and values"),
        ({"rows": [{"label": "A", "control": "no"}]}, "mine: control=no: expected true or false"),
        (
            {"rows": [{"label": "A", "printed": {"set5": "33,66"}}]},
            "mine: printed=33,66 (line 'A'): expected numbers as in 33.66, 33.66 .9299 or 27.82 8x8 .7800",
        ),
        (
            {"rows": [{"label": "A", "command": "rm -rf results"}]},
            "mine: command=rm -rf results (line 'A'): expected nsr train, nsr eval or nsr ablate, and overrides",
        ),
        ({"variables": {"depths": 1}}, "mine: variables={'depths': 1}: expected keys and values"),
        ({"claims": [{"says": "rises", "pairs": [["A"]]}]}, "mine: pairs=[['A']]: expected a list"),
    ],
)
def test_what_describes_no_table_is_named(content, message):
    with pytest.raises(UserError) as refusal:
        experiment_of("mine", {**MINE, "columns": [{"label": "K"}], **content})
    assert str(refusal.value) == message


def test_two_rows_of_one_name_are_refused_where_both_are_shown():
    rows = [{"label": "A", "command": f"nsr train seed={i}", "protocols": p} for i, p in enumerate((["smoke"], None))]
    mine = experiment_of("mine", {**MINE, "rows": rows})
    assert len(mine.lines("short")[0]) == 1
    with pytest.raises(UserError, match=r"^mine: two lines are named 'A' at protocol=smoke; expected other labels$"):
        mine.lines("smoke")


@pytest.mark.parametrize("place", ["{depths[9]}", "{depths[x]}", "{depth}"])
def test_a_place_that_a_variable_does_not_have_is_named(place):
    row = {"label": "A", "command": f"nsr train blocks={place}"}
    mine = experiment_of("mine", {**MINE, "rows": [row], "variables": {"depths": {"smoke": [1, 2]}}})
    with pytest.raises(UserError, match=r"^mine: no variable '.*' in blocks=.*; there are: depths$"):
        mine.commands("smoke")


def test_other_images_than_the_printed_ones_are_said():
    cells = [cell(label, 30, benchmark="embedded_val") for label in ("N/A", "Softmax")]
    text = render(EXAMPLE, cells, "smoke")
    assert "other images than the printed numbers (div2k_val)" in text and "compare the gains" in text


def test_an_unknown_table_is_named():
    with pytest.raises(UserError, match=r"^no table '9'; there are: 1"):
        load_experiment(EXPERIMENTS, "9")


@pytest.mark.parametrize("name", table_names(EXPERIMENTS))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_commands_expand_as_hydra_expands_them(name, protocol):
    for command in load_experiment(EXPERIMENTS, name).commands(protocol):
        verb, *overrides = command
        parsed = OverridesParser.create().parse_overrides([o for o in overrides if o != "-m"])
        assert verb == expand_command(command)[0]
        told = BasicSweeper.split_arguments(parsed, None)[0]  # true becomes True there
        assert [[o.lower() for o in job] for job in expand_command(command)[1]] == [
            [o.lower() for o in job] for job in told
        ]
        assert ("-m" in overrides) == (len(expand_command(command)[1]) > 1)


@pytest.mark.parametrize("name", table_names(EXPERIMENTS))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_job_of_an_experiment_has_a_place_and_every_place_a_job(name, protocol):
    experiment = load_experiment(EXPERIMENTS, name)
    places = list(experiment.slots(protocol))  # raises where a place has no job, or several
    used = {(verb, *overrides) for _, _, verb, overrides in places}
    assert used == {(expand_command(c)[0], *job) for c in experiment.commands(protocol) for job in expand_command(c)[1]}


@pytest.mark.parametrize("name", table_names(EXPERIMENTS))
def test_printed_numbers_claims_and_baseline_speak_of_lines_that_exist(name):
    experiment = load_experiment(EXPERIMENTS, name)
    rows, columns = ({line.label for line in axis} for axis in (experiment.rows, experiment.columns))
    assert experiment.baseline in {None, *rows}
    for claim in (*experiment.claims, *experiment.own_claims):
        assert claim.steps and (claim.labels <= rows or claim.labels <= columns)
    for row in experiment.rows:
        assert set(row.printed) <= (columns or {experiment.printed_on})
        for numbers in row.printed.values():
            psnr, *similarity = numbers.split()
            assert 10 < float(psnr) < 50 and all(0 < float(s) < 1 for s in similarity if s != "8x8")


def test_places_come_row_by_row():
    values = values_of(GRID, [scored("Bicubic", psnr=33.0)], "smoke")
    assert [value.column for value in values] == ["Bicubic", "WNNM", "JPEG"]
    assert [value.seeds for value in values] == [1, 0, 0]
