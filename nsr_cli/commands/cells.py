"""The cells of command lines: each combination of overrides is composed, and its records are looked up."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from nsr_cli.commands.composing import Composer
from nsr_cli.commands.config import check_level, run_of
from nsr_cli.commands.explain import in_one_line
from nsr_cli.commands.from_file import keys_of, with_network_of_file
from nsr_cli.errors import Reported
from nsr_cli.launch.cells import Cell
from nsr_cli.runs.stored import Store


def cells_of(
    verb: str,
    combinations: Sequence[Sequence[str]],
    composer: Composer,
    results: Path,
    processes: int,
    data: Path | None = None,
) -> list[Cell]:
    """A cell for each combination of overrides. An invalid one becomes its cell's ``failure``.

    Args:
        results: the folder of results of all cells; absolute.
        processes: number of processes per job, which share each batch.
        data: the folder of data of all cells; None: each config's own.
    """
    distinct = set(map(frozenset, combinations))
    same = frozenset.intersection(*distinct) if len(distinct) > 1 else ()
    store, cells = Store(), []
    for overrides in combinations:
        words = " ".join(word for word in overrides if word not in same and not word.startswith("hydra"))
        cells.append(cell := Cell(verb, words))
        try:
            values = composer(overrides)
            if verb == "eval":
                values = with_network_of_file(values, overrides, composer)
            check_level(values, keys_of(overrides))
            run = run_of(values, verb)
            folder = str(Path(data or values["data"]).absolute())
            cell.run = run.with_request(results=str(results), data=folder, wait=True)  # for another job of this run
            cell.prepare(store, processes)
        except (OmegaConfBaseException, Reported) as error:
            cell.failure = in_one_line(error, verb)
    return cells
