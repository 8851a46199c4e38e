"""nsr figure: plots of records and trainings, and pictures of what trained runs do."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from nsr_cli.commands.chosen import configs_of, first_seed, suffix, untrained
from nsr_cli.commands.jobs import job
from nsr_cli.commands.settings import check_knobs, run_of
from nsr_cli.commands.table import filling, gather, to_run, what_is_missing
from nsr_cli.errors import Failed, UserError, did_you_mean
from nsr_cli.files import check_writable, read_json_lines
from nsr_cli.folders import package_folder
from nsr_cli.report import plots
from nsr_cli.report.experiments import Experiment, load
from nsr_cli.report.figures import check_matplotlib, save
from nsr_cli.report.tables import Value, is_scored, values_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ["4", "5", "compare", "curves", "table2", "table3"]


@job
def main(cfg: DictConfig) -> None:
    check_knobs(cfg)
    check_matplotlib()
    check_writable("results", cfg.results)
    for name, figure in drawn(cfg, str(cfg.figure)):
        for path in save(figure, Path(cfg.results) / "figures" / cfg.protocol.name / name):
            print(path.resolve())


def drawn(cfg: DictConfig, figure: str) -> Iterator[tuple[str, "Figure"]]:
    """The figures of that name, each with the name of its file."""
    if figure not in FIGURES:
        raise UserError(f"no figure '{figure}'{did_you_mean(figure, FIGURES)}; there are: {', '.join(FIGURES)}")
    if figure in ("5", "compare"):
        from nsr_cli.commands import pictures  # imports torch

        return pictures.gates(cfg) if figure == "5" else pictures.compare(cfg)
    if figure == "curves":
        return curves(cfg)
    return measured(cfg, load(package_folder("experiments"), "figure4" if figure == "4" else figure))


def measured(cfg: DictConfig, experiment: Experiment) -> Iterator[tuple[str, "Figure"]]:
    """PSNR of an experiment's cells, against cardinality or cost; run=true makes the missing ones first."""
    found = gather(cfg, experiment)
    cells, seeds = found.cells, found.seeds
    scored = [cell for cell in cells if is_scored(cell.record)]
    if not scored:
        commands = [f"nsr {' '.join(words)}" for words in filling(cfg, experiment, cells)]
        first = f"run=true, or {'; '.join(commands)}" if commands else f"nsr data get {cells[0].benchmark}"
        raise UserError(f"{cfg.figure}: nothing is measured yet at protocol {cfg.protocol.name}; {first}")
    heading = f"{experiment.title}\nprotocol {cfg.protocol.name}, seed{'s' * (len(seeds) > 1)} "
    heading += ", ".join(map(str, seeds)) + (": mean and standard deviation" if len(seeds) > 1 else "")
    if len(scored) < len(cells):
        heading += f"; {len(cells) - len(scored)} of {len(cells)} values are missing"
    values = values_of(experiment, cells, cfg.protocol.name)
    if experiment.columns:
        costs = {(cell.row, cell.column): cell.record["cost"] for cell in scored}
        yield found.name, plots.against_cost(lines_of(experiment, values, costs), scored[0].benchmark, heading)
    else:
        panels: dict[str, dict[str, list[float]]] = {}
        for value in values:
            panels.setdefault(value.column, {})[value.row] = list(value.measured["psnr"].values())
        yield found.name, plots.against_cardinality(panels, heading)
    for paragraph in what_is_missing(cfg, experiment, found):
        print(paragraph)
    if found.failed:
        raise Failed(f"not complete, these failed: {'; '.join(found.failed)}")


def lines_of(experiment: Experiment, values: list[Value], costs: dict) -> dict[str, list[plots.Point]]:
    """A line for each row, with a point for each column that is measured."""
    lines: dict[str, list[plots.Point]] = {}
    for value in values:
        label = f"{experiment.corner} = {value.row}" if value.row.isdigit() else value.row
        points = lines.setdefault(label, [])
        if cost := costs.get((value.row, value.column)):
            points.append(plots.Point(cost["macs"], cost["parameters"], list(value.measured["psnr"].values())))
    return lines


def curves(cfg: DictConfig) -> Iterator[tuple[str, "Figure"]]:
    """Loss and validation PSNR during training: of Table 1's rows, unless other runs are given."""
    labels = {run: run for run in cfg.runs or []}
    if not labels:
        slots = load(package_folder("experiments"), "1").slots(cfg.protocol.name)
        labels = {" ".join(overrides): row.label for row, _, _, overrides in slots}
    configs = configs_of(cfg, list(labels))
    commands = untrained(cfg, configs)  # an interrupted training has statistics, but not all of them
    trained = [run for run in configs if run not in commands]
    stats = {labels[run]: read_json_lines(run_of(configs[run]).folder / "stats.jsonl") for run in trained}
    stats = {label: lines for label, lines in stats.items() if lines}
    if not stats:
        raise UserError(f"curves: none of these runs was trained here; run=true, or {'; '.join(commands.values())}")
    heading = f"Training curves: protocol {cfg.protocol.name}, seed {first_seed(cfg)}"
    yield (
        f"curves{suffix(cfg, configs)}",
        plots.curves(stats, heading + (f"; {len(commands)} runs are missing" if commands else "")),
    )
    if commands:
        print(to_run(commands.values()))
