"""nsr report: everything in the results as one HTML page."""

import json
from collections.abc import Mapping
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from nsr_cli.bench.timings import convolution_caption, convolution_grids, load_timing, network_caption, network_grid
from nsr_cli.commands.composing import resolved_values
from nsr_cli.commands.knobs import REPORT, check_knobs
from nsr_cli.commands.table import composers, study_of
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.files import check_file, check_writable, write_text
from nsr_cli.folders import package_folder
from nsr_cli.regular import read_regular
from nsr_cli.report.chapters import Chapter, add_table, add_unmeasured, needs_training, other_records
from nsr_cli.report.experiments import load_experiment, read_yaml, table_names
from nsr_cli.report.page import Report, pictures_of, render_page
from nsr_cli.runs.stored import Store

ORDER = ("paper", "short", "narrow")  # then the user's own, then smoke, which says nothing about the paper


def main(cfg: DictConfig) -> None:
    """Write the page."""
    values = resolved_values(cfg)
    check_knobs(values, REPORT)
    out = Path(values["out"] or Path(values["results"]) / "report.html")
    check_file("out", out)
    check_writable("out", str(out.parent))
    write_text(out, render_page(report_of(values)))
    print(out.resolve())


def report_of(values: Mapping) -> Report:
    """The content of the page, collected from the results."""
    results, folder = Path(values["results"]), package_folder("experiments")
    there = sorted({path.parent.name for path in (results / "records").glob("*/*.json")})  # protocols, "untrained"
    store, seen, composed, chapters = Store(), set(), composers(), []
    protocols = chosen_protocols(values["protocols"], there)
    tables = [load_experiment(folder, name) for name in table_names(folder)]
    for protocol in protocols:
        chapters.append(chapter := Chapter(protocol, description_of(protocol)))
        for table in tables:
            if not table.is_for(protocol):
                continue
            if protocol not in there and (table.name in seen or needs_training(table, protocol)):
                add_unmeasured(chapter, table, seen)
            else:
                add_table(chapter, study_of({**values, "protocol": {"name": protocol}}, table, composed), store, seen)
    used = {source.file for c in chapters for section in c.sections for source in section.sources}
    folders = [*protocols, "untrained"] if values["protocols"] else there
    others = other_records(results, used, folders, store.damaged)
    damaged = {path.relative_to(results).as_posix(): what for path, what in sorted(store.damaged.items())}
    return Report(
        chapters,
        {protocol: pictures_of(results, protocol, damaged) for protocol in protocols},
        timings_of(results, damaged),
        read_yaml(folder / "search.yaml"),
        read_yaml(folder / "errata.yaml"),
        others,
        damaged,
    )


def chosen_protocols(given: list[str] | None, there: list[str]) -> list[str]:
    """The protocols to show: the given ones, else all that have records.

    The paper's is added where there are no records, to name what is missing, and for records that need no training.

    Raises:
        UserError: a given protocol does not exist.
    """
    known = GlobalHydra.instance().config_loader().get_group_options("protocol")
    for name in given or []:
        if name not in known:
            raise UserError(f"no protocol '{name}'{did_you_mean(name, known)}; there are: {', '.join(sorted(known))}")
    if given:
        return list(dict.fromkeys(given))
    found = [name for name in (*ORDER, *sorted({*known} - {*ORDER, "smoke"}), "smoke") if name in there]
    return found if found and "untrained" not in there else list(dict.fromkeys([*found, "paper"]))


def description_of(protocol: str) -> str:
    """The comment at the head of a protocol's config, as one line."""
    path = package_folder("conf") / "protocol" / f"{protocol}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    head = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return " ".join(line.lstrip("# ") for line in head)


def timings_of(results: Path, damaged: dict[str, str]) -> list[dict]:
    """The timing tables of each file of `nsr bench`, fp32 first; unreadable files are added to ``damaged``."""
    found, timing = [], load_timing(package_folder("experiments"))
    for path in sorted((results / "bench").glob("*.json")):
        file = path.relative_to(results).as_posix()
        try:
            measured = json.loads(read_regular(path))
            grids = [(title, "", grid) for title, grid in convolution_grids(measured, timing)]
            if measured["networks"]:
                said = network_caption(measured["network"])
                grids.append(("Whole networks", said, network_grid(measured["networks"])))
            made = {name: measured["made"][name] for name in ("date", "device", "commit")}
            made["precision"] = measured["setting"]["precision"]
            found.append({"file": file, "made": made, "caption": convolution_caption(measured, timing), "grids": grids})
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            damaged[file] = f"it is no measurement of nsr bench ({type(error).__name__}: {error})"
    return sorted(found, key=lambda timing: timing["made"]["precision"] != "fp32")
