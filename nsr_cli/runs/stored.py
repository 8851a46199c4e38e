"""Which results of runs are on the disk, and which are missing: for verbs, sweeps, tables and figures alike."""

import contextlib
import json
from functools import lru_cache
from pathlib import Path

from nsr_cli.data.catalog import check_known, image_paths
from nsr_cli.errors import Failed, UserError, find_each
from nsr_cli.names import source_digests
from nsr_cli.regular import read_regular
from nsr_cli.runs.record import Damaged, Record, read_record
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import is_adaptive
from nsr_cli.words import print_line


class Store:
    """The results on the disk, as of one moment: each data set and each folder of records is listed once.

    Attributes:
        damaged: the damage of each damaged record, by its file; they count as missing.
    """

    def __init__(self) -> None:
        self.damaged: dict[Path, str] = {}
        self._images = lru_cache(maxsize=None)(image_paths)
        self.seeds_in = lru_cache(maxsize=None)(self._seeds_in)

    def images(self, run: Run) -> dict[str, list[Path]]:
        """The images of each benchmark of a run.

        Raises:
            UserError: names all missing data sets; the missing training images too, if the run must be trained.
        """
        benchmarks = run.request.benchmarks
        for name in benchmarks:
            check_known(name, run.data)  # before any missing images
        try:
            return find_each(lambda name: self._images(name, run.data), benchmarks)
        except UserError as error:
            if run.request.may_train and run.lacks_weights:
                find_each(lambda name: self._images(name, run.data), dict.fromkeys([*benchmarks, run.request.train]))
            here = [name for name in benchmarks if self._is_here(name, run.data)]
            if not here:
                raise
            raise UserError(f"{error}; benchmarks=[{','.join(here)}] scores what is here") from None

    def _is_here(self, name: str, root: Path) -> bool:
        with contextlib.suppress(UserError):
            return bool(self._images(name, root))
        return False

    def training_images(self, run: Run) -> list[Path]:
        """The training images of a run. Raises UserError if they are missing."""
        return self._images(run.request.train, run.data)

    def record(self, run: Run, benchmark: str) -> Record | None:
        """The record of a run on a benchmark, or None if it is missing or incomplete.

        A record is incomplete if it is damaged; has other conventions, or lacks one of their metrics; was made from
        degraded images of our own although the published ones are here by now; or lacks gate statistics although
        the weights are here to measure them.
        """
        path = run.record(benchmark)
        try:
            record = read_record(path)
            if record and (record.signature, record.benchmark) != (run.spec.signature, run.data_name(benchmark)):
                raise Damaged("it is another run's")
        except Damaged as damage:
            self.damaged[path] = str(damage)
            return None
        if record is None or record.diverged:
            return record if record is None or run.lacks_weights else None  # a later training did not diverge
        is_current = record.covers(run.conventions(benchmark)) and not self._is_outdated(run, benchmark, record)
        lacks_gates = is_adaptive(run.spec.sparsity) and run.trains and record.gates is None and not run.lacks_weights
        return record if is_current and not lacks_gates else None

    def _is_outdated(self, run: Run, benchmark: str, record: Record) -> bool:
        try:
            paths = self._images(benchmark, run.data)
            return run.task_on(benchmark, paths).official(paths) and not record.official_low_resolution
        except UserError:  # the images are not on this machine
            return False

    def _seeds_in(self, folder: Path) -> dict[str, int]:
        """The seed of each trained run with a record in a folder, by the run's signature."""
        found = {}
        for path in folder.glob("*.json"):
            try:
                record = json.loads(read_regular(path))
                signature, seed = record["signature"], record["spec"]["training"]["seed"]
            except ValueError:
                self.damaged[path] = "it is not whole"
            except (OSError, KeyError, TypeError, RecursionError):  # not a record of a training
                continue
            else:
                if isinstance(signature, str) and type(seed) is int:
                    found[signature] = seed
        return found

    def unscored(self, run: Run) -> list[str]:
        """The benchmarks of a run that lack a complete record or requested images; all of them if it is to rescore."""
        return [name for name in run.request.benchmarks if run.request.rescore or not self._is_scored(run, name)]

    def _is_scored(self, run: Run, benchmark: str) -> bool:
        if self.record(run, benchmark) is None:
            return False
        if not run.request.save_images:
            return True
        return all(path.exists() for path in run.saved_images(benchmark, self.images(run)[benchmark]).values())

    def is_finished(self, run: Run) -> bool:
        """Whether all that a run asks for is on the disk."""
        has_work = run.request.explain or run.request.dry_run or (run.request.weights and run.lacks_weights)
        return not has_work and not self.unscored(run)

    def finished_records(self, run: Run) -> dict[str, Record]:
        """The record of each benchmark of a finished run. Raises Failed if its training diverged."""
        records = {name: self.record(run, name) for name in run.request.benchmarks}
        for name, record in records.items():
            if record and record.diverged:
                where = run.record(name).resolve()
                raise Failed(
                    f"diverged: {record.diverged}; it is recorded in {where}, and rescore=true tries once more"
                )
        return records


def changed_code(record: Record) -> list[str]:
    """The modules of the user's own that a record names, and that have changed since it was made."""
    own = record.made.get("own", {})
    now = source_digests(f"{module}." for module in own)
    return [module for module, digest in own.items() if digest and (now.get(module) or digest) != digest]


def print_scores(run: Run, records: dict[str, Record]) -> None:
    """Print the scores of a finished run, and the files of its records."""
    for name, record in records.items():
        print_line(f"{run.spec.name} on {name}: {record.scores_text()}\n  {run.record(name).resolve()}")
        if changed := [module for module in changed_code(record) if module in run.own_code]:
            advice = (
                "rescore=true scores with the present code" + ", another model.name=... trains with it" * run.trains
            )
            print_line(f"  {', '.join(changed)}: changed since then; {advice}")
        if run.request.save_images:
            print_line(f"  {run.images_folder(name).resolve()}")
