"""Statistical tests of claims on the rows of a table, by the records of several seeds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, stdev

from nsr_cli.words import plural

ALPHA = 0.05
ENOUGH_SEEDS = 3
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"

Scores = dict[int, dict[str, float]]  # PSNR in dB, by seed, then by image


@dataclass(frozen=True)
class Claim:
    """A claim: each row of ``order`` is above the one before by more than ``margin``; or in each pair, high above low.

    Attributes:
        says: the claim in words.
        order: labels of two or more rows, or columns, the lowest first.
        pairs: (low, high) labels of each step, where the steps are no chain.
        margin: in dB; below 0 where a loss is allowed.
        protocols: those at which the rows are what the claim speaks of; None: all.
    """

    says: str
    order: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    margin: float = 0.0
    protocols: tuple[str, ...] | None = None

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(low, high) labels of each step."""
        return list(pairwise(self.order)) if self.order else list(self.pairs)

    @property
    def labels(self) -> set[str]:
        return {label for step in self.steps for label in step}


@dataclass(frozen=True)
class Finding:
    """How far one row is above another in one column.

    Attributes:
        low, high: labels of the rows.
        effects: mean difference over images in dB, for each seed that both rows have.
        p_images: of the paired t-test over images (each image's difference being the mean over seeds); the risk that
            the difference is on the other side of the margin. None where too little was measured.
        p_seeds: of the t-test over the seeds' effects.
        verdict: holds or fails when both tests agree; else undecided.
        why: the reason, where the verdict is undecided.
    """

    low: str
    high: str
    effects: tuple[float, ...]
    p_images: float | None
    p_seeds: float | None
    verdict: str
    why: str = ""

    @property
    def effect(self) -> float | None:
        """Mean over seeds, in dB."""
        return mean(self.effects) if self.effects else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, in dB."""
        return stdev(self.effects) if len(self.effects) > 1 else None


def compare(low: str, high: str, below: Scores, above: Scores, margin: float = 0.0, tests: int = 1) -> Finding:
    """Test whether one row is above another by more than a margin.

    Two t-tests are paired: by image, as all rows are scored on the same images, and by seed, as equal seeds see the
    same patches in the same order. A verdict needs both: images (would other photographs agree?) and seeds (would other
    trainings agree?).

    Args:
        low, high: labels.
        below, above: scores of the row ``low`` and of the row ``high``.
        margin: in dB.
        tests: number of findings that the claim rests on. The claim holds if all hold, so each is tested at ALPHA; it
            fails if one fails, so failing is tested at ALPHA / tests.
    """
    seeds = sorted(below.keys() & above.keys())
    scored = [scores[seed].keys() for scores in (below, above) for seed in seeds]
    if any(names != scored[0] for names in scored):
        return Finding(low, high, (), None, None, UNDECIDED, "scored on different images")
    images = sorted(scored[0]) if scored else []
    differences = [[above[seed][image] - below[seed][image] for image in images] for seed in seeds]
    finite = [i for i in range(len(images)) if all(math.isfinite(own[i]) for own in differences)]
    differences = [[own[i] for i in finite] for own in differences]  # the PSNR of identical images is infinite
    effects = tuple(mean(own) for own in differences if own)
    if len(effects) < ENOUGH_SEEDS:
        counted = plural(len(effects), "seed") if effects else "not measured"
        why = f"{counted}, {ENOUGH_SEEDS} needed" if effects else counted
        return Finding(low, high, effects, None, None, UNDECIDED, why)
    by_image = [mean(own[i] for own in differences) for i in range(len(finite))]
    p_images, p_seeds = (risks(values, margin) for values in (by_image, effects))
    greater, less = (max(p_images[side], p_seeds[side]) for side in (0, 1))
    if greater < ALPHA:
        return Finding(low, high, effects, p_images[0], p_seeds[0], HOLDS)
    if less * tests < ALPHA:
        return Finding(low, high, effects, p_images[1], p_seeds[1], FAILS)
    side = 0 if mean(effects) > margin else 1  # the side on which the mean lies
    why = "seeds disagree" if min(effects) < margin < max(effects) else "too close to tell"
    why = f"not clear enough among {tests} comparisons" if less < ALPHA else why
    return Finding(low, high, effects, p_images[side], p_seeds[side], UNDECIDED, why)


def risks(values: list[float] | tuple[float, ...], margin: float) -> tuple[float, float]:
    """p values of two one-sided t-tests: (of the mean not above the margin, of the mean not below it)."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    centred = [value - margin for value in values]
    count = len(centred)
    if count < 2 or max(centred) == min(centred):  # no variance: a t-test is not defined
        return (1.0, 1.0) if count < 2 or centred[0] == 0 else (float(centred[0] < 0), float(centred[0] > 0))
    t = mean(centred) / (stdev(centred) / math.sqrt(count))
    return float(stdtr(count - 1, -t)), float(stdtr(count - 1, t))


def findings_by_column(claim: Claim, columns: dict[str, dict[str, Scores]]) -> dict[str, list[Finding]]:
    """The finding of each step of a claim, by column; the claim rests on all of them.

    Args:
        claim: its rows must be among those of each column.
        columns: scores by column, then by row.
    """
    tests = len(claim.steps) * len(columns)
    return {
        column: [compare(low, high, rows[low], rows[high], claim.margin, tests) for low, high in claim.steps]
        for column, rows in columns.items()
    }


def overall(findings: Iterable[Finding]) -> str:
    """The verdict of several findings: fails if one fails, holds if all hold, else undecided."""
    verdicts = [finding.verdict for finding in findings]
    if FAILS in verdicts:
        return FAILS
    return HOLDS if set(verdicts) == {HOLDS} else UNDECIDED


def weakest(findings: list[Finding]) -> Finding:
    """The deciding finding: the first by verdict (fails, undecided, holds), then by the smallest effect."""
    rank = [FAILS, UNDECIDED, HOLDS]

    def key(finding: Finding) -> tuple[int, float]:
        return rank.index(finding.verdict), -math.inf if finding.effect is None else finding.effect

    return min(findings, key=key)
