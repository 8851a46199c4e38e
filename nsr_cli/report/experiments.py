"""Experiments: a YAML per table, read into rows of cells, each cell a command line."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from nsr_cli.errors import UserError


@dataclass(frozen=True)
class Row:
    """label, the overrides that make its cell (`sparsity=none`), and the paper's number where it is known."""

    label: str
    cell: str
    printed: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows: one is better than the other."""

    better: str
    worse: str


@dataclass(frozen=True)
class Experiment:
    """A table of the paper.

    Attributes:
        sweeps: the command lines that make its cells, as a user would type them.
        score, metric: which number of a record a cell shows: a convention's name, and psnr or ssim.
        printed_on: the benchmark of the printed numbers.
        baseline: label of the row that gains are measured from.
    """

    name: str
    title: str
    text: str
    sweeps: list[str]
    rows: list[Row]
    score: str
    metric: str
    printed_on: str
    corner: str
    baseline: str
    claims: list[Claim] = field(default_factory=list)

    @property
    def verb(self) -> str:
        return shlex.split(self.sweeps[0])[1]


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(folder: Path, name: str) -> Experiment:
    """Read experiments/<name>.yaml; a table may be called by its number alone."""
    known = names(folder)
    stem = f"table{name}" if name.isdigit() else name
    if stem not in known:
        raise UserError(f"no table '{name}'; there are: {', '.join(n.removeprefix('table') for n in known)}")
    content = yaml.safe_load((folder / f"{stem}.yaml").read_text(encoding="utf-8"))
    rows = [Row(**row) for row in content.pop("rows")]
    claims = [Claim(**claim) for claim in content.pop("claims", [])]
    return Experiment(name=stem, rows=rows, claims=claims, **content)
