"""Verdicts on made-up records with known answers."""

import math
import random
from collections import Counter

import pytest
from scipy import stats

from nsr_cli.report.claims import FAILS, HOLDS, UNDECIDED, Claim, Finding, compare, findings_by_column, overall, weakest
from nsr_cli.report.verdicts import Verdict, steps_of


def scores(level: float, seeds: int = 3, images: int = 40, over_seeds: float = 0.01, over_images: float = 0.05) -> dict:
    """PSNR by seed and image: images differ by decibels, alike for all rows; noise of the row's own on top."""
    own = random.Random(level)
    return {
        seed: {
            f"{i}.png": 25 + 0.3 * i + level + shift + own.gauss(0, over_images)
            for i in range(images)
        }
        for seed, shift in ((s, own.gauss(0, over_seeds)) for s in range(seeds))
    }  # fmt: skip


def test_a_clear_win_holds_and_its_opposite_fails():
    low, high = scores(0.0), scores(0.1)
    found = compare("N/A", "Softmax", low, high)
    assert (found.verdict, found.low, found.high) == (HOLDS, "N/A", "Softmax")
    assert found.effect == pytest.approx(0.1, abs=0.03) and found.spread < 0.03
    assert found.p_images < 0.001 and found.p_seeds < 0.05 and found.why == ""
    assert compare("Softmax", "N/A", high, low).verdict == FAILS


def test_p_values_are_those_of_scipys_paired_tests():
    low, high = scores(0.0, images=12), scores(0.02, images=12)
    found = compare("a", "b", low, high)
    names = sorted(low[0])
    means = [[sum(rows[s][n] for s in range(3)) / 3 for n in names] for rows in (high, low)]
    assert found.p_images == pytest.approx(stats.ttest_rel(*means, alternative="greater").pvalue)
    by_seed = [[sum(rows[s].values()) / len(names) for s in range(3)] for rows in (high, low)]
    assert found.p_seeds == pytest.approx(stats.ttest_rel(*by_seed, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("p", "tests", "shown"),
    [
        (0.0498, 1, "0.0498"),  # holds at 0.05, so it is not printed as 0.050
        (0.05, 1, "0.050"),
        (0.0502, 1, "0.050"),
        (0.049999, 1, "0.049999"),
        (0.0063, 8, "0.0063"),  # does not fail at 0.05 / 8
        (0.0004, 1, "< 0.001"),
        (0.0004, 100, "< 0.0005"),  # fails at 0.05 / 100
        (0.0006, 100, "0.001"),
    ],
)
def test_a_printed_p_value_is_on_its_side_of_the_thresholds(p, tests, shown):
    findings = [Finding("a", "b", (0.1,), p, p, UNDECIDED)] * tests
    (step,) = steps_of(Verdict(Claim("", order=("a", "b")), {"set5": findings}, Counter()))
    assert step.p_images == step.p_seeds == shown


def test_a_tie_is_undecided():
    same = scores(0.0)
    tie = compare("a", "b", same, same)
    assert (tie.verdict, tie.why, tie.effect, tie.p_images) == (UNDECIDED, "too close to tell", 0.0, 1.0)


@pytest.mark.parametrize(
    ("seeds", "why"), [(0, "not measured"), (1, "1 seed, 3 needed"), (2, "2 seeds, 3 needed")]
)  # fmt: skip
def test_too_few_seeds_are_undecided_however_large_the_effect(seeds, why):
    found = compare("a", "b", scores(0.0, seeds), scores(5.0, seeds))
    assert (found.verdict, found.why, found.p_images) == (UNDECIDED, why, None)
    assert (found.effect is None) == (seeds == 0)


def test_only_seeds_of_both_rows_count():
    low, high = scores(0.0, seeds=5), scores(1.0, seeds=3)
    assert len(compare("a", "b", low, high).effects) == 3
    del low[1]
    assert compare("a", "b", low, high).why == "2 seeds, 3 needed"


def test_contradictory_seeds_are_undecided_although_the_images_agree():
    low, high = scores(0.0, over_images=0.001), scores(0.0, over_images=0.001)
    for seed, shift in enumerate((0.3, 0.2, -0.1)):
        high[seed] = {name: value + shift for name, value in low[seed].items()}
        high[seed]["0.png"] += 0.01
    found = compare("a", "b", low, high)
    assert found.p_images < 0.001 < 0.05 < found.p_seeds
    assert (found.verdict, found.why) == (UNDECIDED, "seeds disagree")


def test_images_that_disagree_are_undecided_although_the_seeds_agree():
    low = scores(0.0, images=6)
    high = {s: {n: v + (1.0 if n == "0.png" else -0.1) for n, v in own.items()} for s, own in low.items()}
    for seed in high:
        high[seed]["1.png"] += 0.001 * seed
    found = compare("a", "b", low, high)
    assert found.p_seeds < 0.05 < found.p_images and found.verdict == UNDECIDED


def test_a_margin_moves_the_line():
    low, high = scores(0.0), scores(-0.03, over_seeds=0.002, over_images=0.01)
    low = scores(0.0, over_seeds=0.002, over_images=0.01)
    assert compare("a", "b", low, high).verdict == FAILS
    assert compare("a", "b", low, high, margin=-0.05).verdict == HOLDS
    assert compare("a", "b", low, high, margin=-0.01).verdict == FAILS


def test_images_without_a_finite_psnr_are_left_out():
    low, high = scores(0.0), scores(0.1)
    high[0]["3.png"] = math.inf
    assert compare("a", "b", low, high).verdict == HOLDS


@pytest.mark.parametrize("row", [0, 1])
def test_rows_scored_on_different_images_are_undecided(row):
    """The twelve images have three in common, on which one row is clearly above the other."""
    rows = [scores(0.0, images=12), scores(0.1, images=12)]
    rows[row][2] = {name if i < 3 else f"other-{name}": psnr for i, (name, psnr) in enumerate(rows[row][2].items())}
    found = compare("a", "b", *rows)
    assert (found.verdict, found.why, found.effects) == (UNDECIDED, "scored on different images", ())


def test_a_chain_holds_only_with_all_of_its_steps_in_all_columns():
    rows = {"1": scores(0.0), "2": scores(0.1), "4": scores(0.2)}

    def verdict(order: tuple[str, ...], **columns: dict) -> tuple[str, dict]:
        judged = findings_by_column(Claim("rises", order), columns)
        return overall(finding for findings in judged.values() for finding in findings), judged

    found, judged = verdict(("1", "2", "4"), b100=rows)
    assert found == HOLDS and [(f.low, f.high) for f in judged["b100"]] == [("1", "2"), ("2", "4")]
    falls = rows | {"4": scores(0.0)}
    found, judged = verdict(("1", "2", "4"), b100=rows, set5=falls)
    assert found == FAILS and weakest(judged["set5"]).high == "4" and overall(judged["b100"]) == HOLDS
    found, judged = verdict(("1", "2", "4"), b100=rows | {"4": scores(0.2001, seeds=1)})
    assert found == UNDECIDED and weakest(judged["b100"]).why == "1 seed, 3 needed"


def test_failing_is_corrected_for_all_comparisons_that_a_claim_rests_on():
    """With many steps and columns, one of them would often fail by chance."""
    chance = random.Random(0)
    failed = 0
    for _ in range(60):
        columns = {}
        for column in range(4):
            level = [{s: chance.gauss(0, 0.05) for s in range(3)} for _ in range(5)]
            columns[column] = {
                str(k): {s: {f"{i}": 30 + level[k][s] + chance.gauss(0, 0.01) for i in range(20)} for s in range(3)}
                for k in range(5)
            }
        judged = findings_by_column(Claim("does not fall", tuple("01234")), columns)
        failed += overall(finding for findings in judged.values() for finding in findings) == FAILS
    assert failed <= 8  # a twentieth of 60 is expected at most


def test_one_of_many_steps_must_fail_more_clearly():
    """Ten steps that are each tested at 0.05 would often fail by chance."""
    low = scores(0.0, over_seeds=0.0, over_images=0.0)
    high = {s: {n: v - d for n, v in low[s].items()} for s, d in enumerate((0.005, 0.01, 0.015))}
    for s in high:
        high[s]["0.png"] += 0.001
    found = compare("a", "b", low, high)
    assert found.verdict == FAILS and 0.005 < found.p_seeds < 0.05
    corrected = compare("a", "b", low, high, tests=10)
    assert (corrected.verdict, corrected.why) == (UNDECIDED, "not clear enough among 10 comparisons")


def test_overall():
    def of(*verdicts: str) -> str:
        return overall(Finding("a", "b", (), None, None, verdict) for verdict in verdicts)

    assert of(HOLDS, HOLDS) == HOLDS
    assert of(HOLDS, UNDECIDED) == UNDECIDED
    assert of(HOLDS, FAILS, UNDECIDED) == FAILS
    assert of() == UNDECIDED
