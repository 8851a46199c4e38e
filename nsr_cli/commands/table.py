"""nsr table: a table of the paper from the records at hand; run=true makes the missing ones first."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig

from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.config import run_of
from nsr_cli.commands.knobs import TABLE, check_knobs
from nsr_cli.commands.missing import run_missing
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import check_writable, write_text
from nsr_cli.folders import package_folder
from nsr_cli.report.experiments import Experiment, load_experiment
from nsr_cli.report.sheet import changed_code_notes
from nsr_cli.report.study import Shown, Study
from nsr_cli.report.tables import FORMATS, render


def main(cfg: DictConfig) -> None:
    """Print and save the table that the config names."""
    values = resolved_values(cfg)
    check_knobs(values, TABLE)
    if values["run"]:
        check_writable("results", values["results"])
    experiment = load_experiment(package_folder("experiments"), str(values["table"]))
    study = study_of(values, experiment)

    def meanwhile(shown: Shown) -> None:
        if values["format"] == "markdown":
            print(render(experiment, shown.cells, study.protocol, prose=False), flush=True)

    shown, failed = complete_study(values, f"nsr table {values['table']}", study, meanwhile)
    missing = study.remarks(shown)
    if values["format"] == "csv":
        missing += changed_code_notes(experiment, shown.cells)  # other forms have them in the caption
    if values["run"] and not failed and not any(cell.record for cell in shown.cells):
        raise UserError(f"{experiment.name}: no cell can be made. {' '.join(missing)}")
    text = render(experiment, shown.cells, study.protocol, values["format"])
    print(text)
    aside = sys.stdout if values["format"] == "markdown" else sys.stderr  # so that CSV can be piped
    for paragraph in missing:
        print(f"{paragraph}\n", file=aside)
    if values["save"]:
        path = Path(values["results"]) / "tables" / study.protocol / f"{shown.name}{FORMATS[values['format']]}"
        try:
            write_text(path, text)
        except OSError as error:
            raise Failed(f"{path} cannot be written ({error.strerror}); save=false prints the table alone") from None
        print(path.resolve(), file=aside)
    if failed:
        raise Failed(f"not complete, these failed: {'; '.join(failed)}")


def composers() -> dict[str, Composer]:
    """{verb: Composer} of the verbs that make cells; tables that share them compose fewer configs."""
    return {verb: Composer(partial(compose, verb)) for verb in ("train", "eval", "ablate")}


def study_of(values: Mapping, experiment: Experiment, composed: Mapping[str, Composer] | None = None) -> Study:
    """The study of an experiment: its runs, composed from its commands, at the protocol of the values."""
    protocol, runs = values["protocol"]["name"], {}
    if not experiment.is_for(protocol):
        known = ", ".join(next(iter(experiment.variables.values())))
        raise UserError(f"protocol={protocol}: {experiment.name} has no settings for it; expected one of {known}")
    composed = composed or composers()
    for _, _, verb, overrides in experiment.slots(protocol):
        if (verb, *overrides) not in runs:
            own = composed[verb]([*overrides, "seed=0", f"protocol={protocol}"])
            own["metrics"] = [*(own["metrics"] or []), *experiment.metrics]
            own |= {"results": values["results"], "data": values["data"]}
            runs[verb, *overrides] = run_of(own, verb)
    return Study(experiment, protocol, runs, Path(values["data"]), Path(values["results"]))


def complete_study(
    values: Mapping, title: str, study: Study, meanwhile: Callable[[Shown], None] = lambda shown: None
) -> tuple[Shown, list[str]]:
    """What a study shows, and the cells that failed; run=true makes missing cells before.

    Cells that need no training come first. Then ``meanwhile`` is called with what the study shows so far.
    """
    shown, failed = study.shown(values["seeds"]), []
    if not values["run"]:
        return shown, failed
    for trained in (False, True):
        commands = study.missing_commands([cell for cell in shown.cells if cell.trained == trained])
        if trained and commands and any(cell.record for cell in shown.cells):
            meanwhile(shown)
        if commands:
            failed += run_missing(values, title, commands)
            shown = study.shown(shown.seeds)
    return shown, failed
