"""nsr report: everything in the results as one HTML page."""

from collections.abc import Mapping
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from nsr_cli.bench.timings import caption, convolution_grids, load_timing, network_caption, network_grid
from nsr_cli.commands.composing import resolved
from nsr_cli.commands.knobs import REPORT, check_knobs
from nsr_cli.commands.table import composers, study_of
from nsr_cli.data.regular import read_regular
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.files import check_writable, write_text
from nsr_cli.folders import package_folder
from nsr_cli.report.chapters import Chapter, add_table, add_untouched, needs_training, other_records
from nsr_cli.report.experiments import load, names, read_yaml
from nsr_cli.report.page import Report, page, pictures_of
from nsr_cli.runs.stored import Store

ORDER = ("paper", "short", "narrow")  # then those of one's own, then smoke, which says nothing about the paper


def main(cfg: DictConfig) -> None:
    values = resolved(cfg)
    check_knobs(values, REPORT)
    out = Path(values["out"] or Path(values["results"]) / "report.html")
    if out.is_dir():
        raise UserError(f"out={out}: a folder; expected a file")
    check_writable("out", str(out.parent))
    write_text(out, page(report_of(values)))
    print(out.resolve())


def report_of(values: Mapping) -> Report:
    """What the page shows of the results."""
    results, folder = Path(values["results"]), package_folder("experiments")
    store, seen, composed, there = Store(), set(), composers(), recorded(results)
    chapters: list[Chapter] = []
    damaged: dict[str, str] = {}
    protocols = chosen(values["protocols"], there)
    tables = [load(folder, name) for name in names(folder)]
    for protocol in protocols:
        chapters.append(chapter := Chapter(protocol, about(protocol)))
        for table in (table for table in tables if table.is_for(protocol)):
            if protocol not in there and (table.name in seen or needs_training(table, protocol)):
                add_untouched(chapter, table, seen)
            else:
                add_table(chapter, study_of({**values, "protocol": {"name": protocol}}, table, composed), store, seen)
    used = {source.file for c in chapters for section in c.sections for source in section.sources}
    folders = [*protocols, "untrained"] if values["protocols"] else there
    others = other_records(results, used, folders, store.damaged)
    damaged |= {path.relative_to(results).as_posix(): what for path, what in sorted(store.damaged.items())}
    return Report(
        chapters,
        {protocol: pictures_of(results, protocol, damaged) for protocol in protocols},
        timings_of(results, damaged),
        read_yaml(folder / "search.yaml"),
        read_yaml(folder / "errata.yaml"),
        others,
        damaged,
    )


def recorded(results: Path) -> list[str]:
    """The folders of records that hold any."""
    return sorted({path.parent.name for path in (results / "records").glob("*/*.json")})


def chosen(given: list[str] | None, there: list[str]) -> list[str]:
    """The protocols to show: those given, else all of which there are records; else the paper's, which says what lacks.

    The paper's tables are also where the methods stand that need no training.
    """
    known = GlobalHydra.instance().config_loader().get_group_options("protocol")
    for name in given or []:
        if name not in known:
            raise UserError(f"no protocol '{name}'{did_you_mean(name, known)}; there are: {', '.join(sorted(known))}")
    if given:
        return list(dict.fromkeys(given))
    found = [name for name in (*ORDER, *sorted({*known} - {*ORDER, "smoke"}), "smoke") if name in there]
    return found if found and "untrained" not in there else list(dict.fromkeys([*found, "paper"]))


def about(protocol: str) -> str:
    """The words at the head of a protocol's config."""
    path = package_folder("conf") / "protocol" / f"{protocol}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    head = lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return " ".join(line.lstrip("# ") for line in head)


def timings_of(results: Path, damaged: dict[str, str]) -> list[dict]:
    """The tables of each file that `nsr bench` has left; one that cannot be read is added to ``damaged``."""
    import json

    found, timing = [], load_timing(package_folder("experiments"))
    for path in sorted((results / "bench").glob("*.json")):
        file = path.relative_to(results).as_posix()
        try:
            measured = json.loads(read_regular(path))
            grids = [(title, "", grid) for title, grid in convolution_grids(measured, timing)]
            if measured["networks"]:
                said = network_caption(measured["network"])
                grids.append(("Whole networks", said, network_grid(measured["networks"])))
            made = measured["made"] | {"precision": measured["setting"]["precision"]}
            found.append({"file": file, "made": made, "caption": caption(measured, timing), "grids": grids})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            damaged[file] = f"it is no measurement of nsr bench ({type(error).__name__}: {error})"
    return sorted(found, key=lambda timing: timing["made"]["precision"] != "fp32")
