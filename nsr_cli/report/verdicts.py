"""Verdicts on the claims of an experiment, as data: findings by column, and how many steps of each claim hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from nsr_cli.report.claims import (
    ALPHA,
    FAILS,
    HOLDS,
    UNDECIDED,
    Claim,
    Finding,
    Scores,
    findings_by_column,
    overall,
    weakest,
)
from nsr_cli.report.experiments import Experiment
from nsr_cli.report.values import Cell, is_scored, score_of
from nsr_cli.words import plural

WORDS = {FAILS: "fail", UNDECIDED: "undecided"}
MOST_COLUMNS = 4  # columns shown for a claim, a line each; of more, only the deciding one is shown


@dataclass(frozen=True)
class Verdict:
    """What the records say of a claim.

    Attributes:
        claim: on the rows, or columns, that the table shows.
        findings: of each step, by the column (or row) in which it is tested.
        diverged: number of diverged trainings, by (column or row, label).
        hidden: labels of the claim that the table does not show; their steps are not tested.
    """

    claim: Claim
    findings: dict[str, list[Finding]]
    diverged: Counter[tuple[str, str]]
    hidden: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """holds, fails or undecided, by all findings."""
        return overall(finding for findings in self.findings.values() for finding in findings)

    @property
    def counts(self) -> str:
        """How many steps hold, fail and are undecided, and what is hidden, for a claim of several."""
        words = Counter(finding.verdict for findings in self.findings.values() for finding in findings)
        if (total := words.total()) == 1 and not self.hidden:
            return ""
        holding = f"{words[HOLDS]} of {plural(total, 'step')} hold"
        hidden = f"without {', '.join(self.hidden)}: not shown"
        others = [f"{words[w]} {say}" for w, say in WORDS.items() if words[w]]
        return ", ".join([holding, *others, *[hidden] * bool(self.hidden)])


@dataclass(frozen=True)
class Step:
    """The deciding step of a claim in one column, in words.

    Attributes:
        finding: of this step, between two rows.
        effect, margin: in dB.
        verdict: in that column, and why.
    """

    column: str
    finding: Finding
    effect: str
    margin: str
    p_images: str
    p_seeds: str
    verdict: str


def verdicts(experiment: Experiment, claims: Sequence[Claim], cells: list[Cell], protocol: str) -> list[Verdict]:
    """A verdict on each claim for the protocol with at least one step that its table shows.

    A claim whose labels are rows is tested in every column; one whose labels are columns, in every row.
    """
    rows, columns = ({line.label for line in axis} for axis in experiment.lines(protocol))
    scores, lost = _scores(experiment, cells)
    found = []
    for claim in claims:
        of_rows = not claim.labels <= {line.label for line in experiment.columns}
        there = rows if of_rows else columns
        shown = replace(claim, order=(), pairs=tuple(step for step in claim.steps if there.issuperset(step)))
        if not shown.steps or (claim.protocols is not None and protocol not in claim.protocols):
            continue
        places = {cell.column if of_rows else cell.row: None for cell in cells}
        panels: dict[str, dict[str, Scores]] = {}
        for place in places:
            key = [(label, place) if of_rows else (place, label) for label in shown.labels]
            if any(one in scores for one in key):
                panels[place] = {label: scores.get(one, {}) for label, one in zip(shown.labels, key, strict=True)}
        if not panels:
            continue
        gone = Counter({(c, r) if of_rows else (r, c): n for (r, c), n in lost.items()})
        hidden = tuple(label for label in dict.fromkeys(chain(*claim.steps)) if label not in there)
        found.append(Verdict(shown, findings_by_column(shown, panels), gone, hidden))
    return found


def _scores(experiment: Experiment, cells: list[Cell]) -> tuple[dict[tuple[str, str], Scores], Counter]:
    """PSNR by (row, column), seed and image, and how many trainings diverged there.

    The scores of a method without training are repeated for every seed.
    """
    seeds = sorted({cell.seed for cell in cells})
    found: dict[tuple[str, str], Scores] = {}
    for cell in cells:
        own = found.setdefault((cell.row, cell.column), {})
        if is_scored(cell.record):
            images = score_of(experiment, cell.record).images
            psnr = {name: score["psnr"] for name, score in images.items()}
            own |= dict.fromkeys([cell.seed] if cell.trained else seeds, psnr)
    lost = Counter((c.row, c.column) for c in cells if c.record is not None and not is_scored(c.record))
    return found, lost


def steps_of(verdict: Verdict) -> list[Step]:
    """The deciding step of a claim in each shown column."""
    steps, tests = [], sum(map(len, verdict.findings.values()))
    for column, findings in _deciding_findings(verdict).items():
        step = weakest(findings)
        effect = "" if step.effect is None else f"{step.effect:+.3f}"
        effect += "" if step.spread is None else f" ± {step.spread:.3f}"
        margin = f"{verdict.claim.margin:+g}" if verdict.claim.margin else "0"
        lost = {label: verdict.diverged[column, label] for label in (step.low, step.high)}
        why = [step.why] if step.why else []
        why += [f"{number} of {label} diverged" for label, number in lost.items() if number]
        end = ": ".join([step.verdict, ", ".join(why)] if why else [step.verdict])
        risks = (_risk(p, (ALPHA, ALPHA / tests)) for p in (step.p_images, step.p_seeds))
        steps.append(Step(column, step, effect, margin, *risks, end))
    return steps


def _deciding_findings(verdict: Verdict) -> dict:
    """The findings to show, by column: of all columns, or if they are many, of the deciding one alone."""
    if len(verdict.findings) <= MOST_COLUMNS:
        return verdict.findings
    every = weakest([finding for findings in verdict.findings.values() for finding in findings])
    return {column: [every] for column, findings in verdict.findings.items() if any(f is every for f in findings)}


def _risk(p: float | None, thresholds: Sequence[float]) -> str:
    """A p value with three digits, or with as many as show on which side of each threshold it is."""
    if p is None:
        return ""
    if p < (least := min(0.001, *thresholds)):
        return f"< {least:g}"
    shown = (f"{p:.{digits}f}" for digits in range(3, 17))
    return next((text for text in shown if all((float(text) < t) == (p < t) for t in thresholds)), str(p))
