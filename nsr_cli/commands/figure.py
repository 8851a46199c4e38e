"""nsr figure: plots of records and trainings, and pictures of what trained runs do."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig

from nsr_cli.commands.composing import checked_overrides, resolved_values
from nsr_cli.commands.config import run_of
from nsr_cli.commands.explain import explain
from nsr_cli.commands.knobs import FIGURE, as_typed, check_knobs
from nsr_cli.commands.missing import run_missing
from nsr_cli.commands.table import complete_study, study_of
from nsr_cli.errors import Failed, UserError, did_you_mean
from nsr_cli.files import check_writable, read_json_lines
from nsr_cli.folders import package_folder
from nsr_cli.report import plots
from nsr_cli.report.experiments import load_experiment, read_yaml
from nsr_cli.report.figures import check_matplotlib, save
from nsr_cli.report.study import missing_commands_text
from nsr_cli.report.values import is_scored, values_of
from nsr_cli.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPARED = ["sparsity=none", "sparsity=softmax"]  # unless other runs are given


def main(cfg: DictConfig) -> None:
    """Draw and save the figures that the config names."""
    values = resolved_values(cfg)
    check_knobs(values, FIGURE)
    check_matplotlib()
    check_writable("results", values["results"])
    figure = str(values["figure"])
    if figure not in FIGURES:
        raise UserError(f"no figure '{figure}'{did_you_mean(figure, FIGURES)}; there are: {', '.join(FIGURES)}")
    for name, drawn in FIGURES[figure](values):
        for path in save(drawn, Path(values["results"]) / "figures" / values["protocol"]["name"] / name):
            print(path.resolve())


def measured_figure(values: Mapping) -> Iterator[tuple[str, "Figure"]]:
    """PSNR of an experiment's cells, against cardinality or cost; run=true makes missing cells first."""
    name = str(values["figure"])
    experiment = load_experiment(package_folder("experiments"), "figure4" if name == "4" else name)
    study = study_of(values, experiment)
    shown, failed = complete_study(values, f"nsr figure {values['figure']}", study)
    cells, seeds = shown.cells, shown.seeds
    scored = [cell for cell in cells if is_scored(cell.record)]
    if not scored:
        commands = [f"nsr {' '.join(words)}" for words in study.missing_commands(cells)]
        first = f"run=true, or {'; '.join(commands)}" if commands else f"nsr data get {cells[0].benchmark}"
        raise UserError(f"{values['figure']}: nothing is measured yet at protocol {study.protocol}; {first}")
    heading = f"{experiment.title}\nprotocol {study.protocol}, seed{'s' * (len(seeds) > 1)} "
    heading += ", ".join(map(str, seeds)) + (": mean and standard deviation" if len(seeds) > 1 else "")
    if len(scored) < len(cells):
        heading += f"; {len(cells) - len(scored)} of {len(cells)} values are missing"
    found = values_of(experiment, cells, study.protocol)
    if experiment.columns:
        costs = {(cell.row, cell.column): cell.record.cost for cell in scored}
        yield shown.name, plots.against_cost(plots.lines_of(experiment, found, costs), scored[0].benchmark, heading)
    else:
        panels: dict[str, dict[str, list[float]]] = {}
        for value in found:
            panels.setdefault(value.column, {})[value.row] = list(value.measured["psnr"].values())
        yield shown.name, plots.against_cardinality(panels, heading)
    for paragraph in study.remarks(shown):
        print(paragraph)
    if failed:
        raise Failed(f"not complete, these failed: {'; '.join(failed)}")


def curves_figure(values: Mapping) -> Iterator[tuple[str, "Figure"]]:
    """Loss and validation PSNR during training: of Table 1's rows, unless other runs are given."""
    protocol = values["protocol"]["name"]
    labels = {run: run for run in values["runs"] or []}
    if not labels:
        slots = load_experiment(package_folder("experiments"), "1").slots(protocol)
        labels = {" ".join(overrides): row.label for row, _, _, overrides in slots if not row.control}
    runs = runs_of(values, list(labels))
    commands = commands_of_untrained(values, runs)  # an interrupted training has statistics, but not all of them
    stats = {labels[r]: read_json_lines(run.folder / "stats.jsonl") for r, run in runs.items() if r not in commands}
    stats = {label: whole for label, lines in stats.items() if (whole := list(filter(is_whole, lines)))}
    if not stats:
        raise UserError(f"curves: none of these runs was trained here; run=true, or {'; '.join(commands.values())}")
    heading = f"Training curves: protocol {protocol}, seed {one_seed(values)}"
    heading += f"; {len(commands)} runs are missing" if commands else ""
    yield f"curves{file_suffix(values, runs)}", plots.curves_figure(stats, heading)
    if commands:
        print(missing_commands_text(commands.values()))


def is_whole(line: Mapping) -> bool:
    """Whether a line of stats.jsonl has the numbers that are drawn; a damaged one may lack them."""
    drawn = [line.get("psnr", 0.0), *map(line.get, ("step", "loss", "learning_rate"))]
    return all(type(number) in (int, float) and math.isfinite(number) for number in drawn)


def compare_figure(values: Mapping) -> Iterator[tuple[str, "Figure"]]:
    """One benchmark image: low resolution, bicubic, each of the runs, ground truth."""
    given = list(values["runs"] or COMPARED)
    runs = runs_of(values, given)
    if other := [run.task.name for run in runs.values() if run.task.name != "sr"]:
        raise UserError(f"runs={given}: compare shows super-resolution, and task={other[0]} is not")
    scales = {run.task.scale for run in runs.values()}
    if len(scales) > 1:
        raise UserError(f"runs={given}: found scales {sorted(scales)}; expected runs of one scale")
    from nsr_cli.report import restored  # imports torch

    benchmark = next(iter(runs.values())).request.benchmarks[0]
    (path,) = restored.images_of(benchmark, Path(values["data"]), [values["image"]] if values["image"] else [])
    check_trained(values, runs)
    config = resolved_values(compose("eval", ["model=bicubic", f"scale={scales.pop()}"]))
    bicubic = run_of(config | own_folders(values), "eval")
    heading = f"protocol {values['protocol']['name']}, seed {one_seed(values)}"
    titled = {"N/A" if r == "sparsity=none" else r.replace("sparsity=", ""): run for r, run in runs.items()}
    figure = restored.compare_figure(bicubic, titled, benchmark, path, values["crop"], heading)
    yield f"compare-{path.stem}{file_suffix(values, runs)}", figure


def gate_figures(values: Mapping) -> Iterator[tuple[str, "Figure"]]:
    """Figure 5: the gates of every block over images, one figure for each run."""
    experiment = read_yaml(package_folder("experiments") / "figure5.yaml")
    protocol = values["protocol"]["name"]
    own = experiment["command"][protocol].removeprefix("nsr ablate ")
    from nsr_cli.report import restored  # imports torch

    names = [values["image"]] if values["image"] else experiment["images"][protocol]
    paths = restored.images_of(experiment["benchmark"][protocol], Path(values["data"]), names)
    runs = runs_of(values, list(values["runs"] or [own]))
    for given, run in runs.items():
        restored.check_gates(given, run)
    check_trained(values, runs)
    for given, run in runs.items():
        heading = f"nsr ablate {given}; protocol {protocol}, seed {run.spec.training.seed}"
        figure = restored.gates_figure(run, paths, experiment["title"], heading)
        yield f"figure5{file_suffix(values, {given: run})}", figure


FIGURES = {  # each yields (name of the file, figure)
    "4": measured_figure,
    "5": gate_figures,
    "compare": compare_figure,
    "curves": curves_figure,
    "table2": measured_figure,
    "table3": measured_figure,
}


def runs_of(values: Mapping, given: list[str]) -> dict[str, Run]:
    """{text: run} for texts of overrides of `nsr ablate`, with the figure's protocol, first seed and folders."""
    runs = {}
    for text in given:
        keys = [word.partition("=")[0].lstrip("+~") for word in text.split()]
        if own := [key for key in keys if key in ("protocol", "seed", "results", "data", "dry_run")]:
            said = "seeds" if own[0] == "seed" else own[0]
            raise UserError(f"runs=[{text}]: {own[0]} is the figure's own; expected {said}=... beside runs")
        try:
            config = resolved_values(
                compose("ablate", [*checked_overrides("ablate", text.split()), *shared_overrides(values)])
            )
        except HydraException as error:
            raise UserError(f"runs=[{text}]: {explain(error, 'ablate')}") from None
        runs[text] = run_of(config | own_folders(values), "ablate")
    return runs


def own_folders(values: Mapping) -> dict[str, str]:
    """The figure's folders of data and results, which its runs share."""
    return {"results": values["results"], "data": values["data"]}


def commands_of_untrained(values: Mapping, runs: dict[str, Run]) -> dict[str, str]:
    """{text: command line that trains it} for the runs without weights; run=true trains them first."""
    commands = {text: [*text.split(), *shared_overrides(values), "weights=true"] for text in runs}
    lacking = [["ablate", "-m", *commands[text]] for text, run in runs.items() if run.lacks_weights]
    if values["run"] and (failed := run_missing(values, f"nsr figure {values['figure']}", lacking)):
        raise Failed(f"these failed: {'; '.join(failed)}")
    return {text: f"nsr ablate {' '.join(commands[text])}" for text, run in runs.items() if run.lacks_weights}


def check_trained(values: Mapping, runs: dict[str, Run]) -> None:
    """Raise UserError unless all runs are trained; run=true trains them first."""
    if commands := commands_of_untrained(values, runs):
        folder = Path(values["results"]).resolve() / "runs"
        raise UserError(f"no weights in {folder}; run=true makes them, or {'; '.join(commands.values())}")


def file_suffix(values: Mapping, runs: dict[str, Run]) -> str:
    """The end of a file's name: the names of the runs that the user gave, if any."""
    return "".join(f"-{run.name}" for run in runs.values()) if values["runs"] else ""


def one_seed(values: Mapping) -> int:
    """The seed of the runs of a figure that shows networks themselves. Raises UserError for several."""
    seeds = values["seeds"] or [0]
    if len(seeds) > 1:
        what = "this figure shows runs of one seed; expected it alone, as in seeds=[0]"
        raise UserError(f"seeds={as_typed(seeds)}: {what}")
    return seeds[0]


def shared_overrides(values: Mapping) -> list[str]:
    """The overrides that all runs of a figure share."""
    return [f"protocol={values['protocol']['name']}", f"seed={one_seed(values)}"]
