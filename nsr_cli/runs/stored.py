"""What of runs is on the disk, and so what is missing: the one answer, for verbs, sweeps, tables and figures."""

import contextlib
import json
from functools import lru_cache
from pathlib import Path

from nsr_cli.data.catalog import find, image_paths, is_folder
from nsr_cli.data.regular import read_regular
from nsr_cli.errors import Failed, UserError, find_each
from nsr_cli.runs.record import Damaged, Record, read_record
from nsr_cli.runs.run import Run
from nsr_cli.runs.spec import chooses
from nsr_cli.words import print_line


class Store:
    """A look at the disk, shared by many runs: each data set and each folder of records is listed once.

    Attributes:
        damaged: files that are no whole records, and in what; they count as missing.
    """

    def __init__(self) -> None:
        self.damaged: dict[Path, str] = {}
        self._images = lru_cache(maxsize=None)(image_paths)
        self.seeds_in = lru_cache(maxsize=None)(seeds_in)

    def images(self, run: Run) -> dict[str, list[Path]]:
        """The images of each benchmark of a run.

        Raises:
            UserError: for all that are missing, and then also for those that the run would be trained on.
        """
        benchmarks = run.request.benchmarks
        for name in benchmarks:
            if not is_folder(name):
                find(name, run.data)  # complains about an unknown one, for that is another matter
        try:
            return find_each(lambda name: self._images(name, run.data), benchmarks)
        except UserError:
            if run.request.may_train and run.lacks_weights:
                find_each(lambda name: self._images(name, run.data), dict.fromkeys([*benchmarks, run.request.train]))
            raise

    def training_images(self, run: Run) -> list[Path]:
        return self._images(run.request.train, run.data)

    def record(self, run: Run, benchmark: str) -> Record | None:
        """The record of a run on a benchmark, if it answers all that is asked of it; None where it is missing.

        Missing are also: a damaged record; one by other conventions, or without one of their metrics; one of degraded
        images made here, where by now the publisher's own are at hand; one without statistics of the gates, where the
        weights are there to measure them.
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
            return record
        whole = record.has(run.conventions(benchmark)) and not self._is_outdated(run, benchmark, record)
        unmeasured = chooses(run.spec.sparsity) and run.trains and record.gates is None and not run.lacks_weights
        return record if whole and not unmeasured else None

    def _is_outdated(self, run: Run, benchmark: str, record: Record) -> bool:
        try:
            paths = self._images(benchmark, run.data)
            return run.task_on(benchmark, paths).official(paths) != record.official_low_resolution
        except UserError:  # not on this machine: the record stands
            return False

    def unscored(self, run: Run) -> list[str]:
        """The benchmarks of a run on which there is something to score, or to save."""
        return [name for name in run.request.benchmarks if run.request.rescore or not self._is_scored(run, name)]

    def _is_scored(self, run: Run, benchmark: str) -> bool:
        if self.record(run, benchmark) is None:
            return False
        if not run.request.save_images:
            return True
        return all(path.exists() for path in run.saved_images(benchmark, self.images(run)[benchmark]).values())

    def is_finished(self, run: Run) -> bool:
        """Whether a run asks for nothing that is not on the disk."""
        asks = run.request.explain or run.request.dry_run or (run.request.weights and run.lacks_weights)
        return not asks and not self.unscored(run)

    def finished(self, run: Run) -> dict[str, Record]:
        """The record of each benchmark of a finished run.

        Raises:
            Failed: its training diverged.
        """
        records = {name: self.record(run, name) for name in run.request.benchmarks}
        for name, record in records.items():
            if record and record.diverged:
                where = run.record(name).resolve()
                raise Failed(
                    f"diverged: {record.diverged}; it is recorded in {where}, and rescore=true tries once more"
                )
        return records


def show(run: Run, records: dict[str, Record]) -> None:
    """Print the scores of a finished run, and where they are."""
    for name, record in records.items():
        print_line(f"{run.spec.name} on {name}: {record.in_words()}\n  {run.record(name).resolve()}")
        if run.request.save_images:
            print_line(f"  {run.images_folder(name).resolve()}")


def seeds_in(folder: Path) -> dict[str, int]:
    """The seed of every training that has a record in a folder, by its signature."""
    found = {}
    for path in folder.glob("*.json"):
        with contextlib.suppress(
            OSError, ValueError, KeyError, TypeError, RecursionError
        ):  # no record, or a damaged one
            record = json.loads(read_regular(path))
            signature, seed = record["signature"], record["spec"]["training"]["seed"]
            if isinstance(signature, str) and type(seed) is int:
                found[signature] = seed
    return found
