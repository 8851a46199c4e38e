"""Dispatchers run the unfinished cells of a sweep: their base, and the one that runs them in this process."""

import re
import shutil
from pathlib import Path
from typing import ClassVar

from nsr_cli.errors import Failed, JobFailed, report_error
from nsr_cli.launch.cells import Cell, Watched
from nsr_cli.launch.job import do_run, job_text
from nsr_cli.launch.progress import log_of
from nsr_cli.launch.sweep import Job, create_sweep
from nsr_cli.regular import read_regular
from nsr_cli.runs.record import first_psnr
from nsr_cli.runs.stored import Store
from nsr_cli.words import print_line

OUT_OF_MEMORY = re.compile("exceeded memory limit|oom[-_ ]kill", re.IGNORECASE)  # Slurm's words, in a job's log


class Dispatcher:
    """Skips finished cells, submits and follows jobs for the others, and prints every failure.

    Attributes:
        place: where jobs run, as in sweep.json: slurm or local.
        settings: of the launcher's config.
        traces: tracebacks already printed; many jobs may fail alike.
    """

    place: ClassVar[str]

    def __init__(self, **settings):
        self.settings = settings
        self.traces: set[str] = set()

    @property
    def processes(self) -> int:
        """Number of processes of each job."""
        return self.settings.get("nodes", 1) * self.settings.get("tasks_per_node", 1)

    def check(self, wait: bool) -> None:
        """Raise UserError where jobs cannot be started."""

    def adopt(self, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[list[Cell]]]:
        """(queued jobs of other sweeps that make some of the groups, the other groups)."""
        return [], groups

    def submit(self, title: str, groups: list[list[Cell]], results: Path) -> list[Watched]:
        """Submit a new sweep with a job for each group of cells. Returns the submitted jobs."""
        raise NotImplementedError

    def follow(self, watched: list[Watched]) -> None:
        """Wait until every job has ended, and note each end."""
        raise NotImplementedError

    def send(self, title: str, cells: list[Cell], results: Path, wait: bool = True, dry_run: bool = False) -> None:
        """Run the unfinished cells, and note in each how it ended; without ``wait``, return once they are submitted."""
        self.check(wait)
        if done := sum(cell.finished for cell in cells):
            print_line(f"{done} of {len(cells)} are done already")
        for cell in cells:
            if cell.failure:
                self.print_failure(cell)
        groups: dict[Path, list[Cell]] = {}  # of cells that need the same run
        for cell in cells:
            if not cell.finished and not cell.failure:
                groups.setdefault(cell.run.folder, []).append(cell)
        if dry_run:
            for folder, group in groups.items():
                words = "; ".join(dict.fromkeys(cell.words for cell in group))
                print_line(f"would be submitted: {words}\n  {folder.resolve()}")
        elif groups:
            adopted, new = self.adopt(list(groups.values()), results)
            watched = [*adopted, *(self.submit(title, new, results) if new else [])]
            if wait:
                self.follow(watched)
            else:
                print_line(
                    "wait=false: `nsr status` shows their progress; without wait=false the command waits for them"
                )

    def create_jobs(self, title: str, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[str]]:
        """Create a sweep's folder with a job for each group of cells. Returns the jobs, and each as text."""
        planned = []
        for index, group in enumerate(groups):
            records = [record for cell in group for record in cell.records(results)]
            metrics = set.intersection(*(set(cell.run.request.metrics) for cell in group))  # of every record
            planned.append(Job(index, group[0].run.name, [cell.words for cell in group], records, sorted(metrics)))
        sweep = create_sweep(results, title, self.place, planned)
        pairs = list(zip(planned, groups, strict=True))
        texts = [job_text(sweep, job, [cell.run for cell in group]) for job, group in pairs]
        return [Watched(sweep, job, group) for job, group in pairs], texts

    def note_end(self, watch: Watched, state: dict | None, died: str) -> None:
        """Note in its cells how a job ended, and print it.

        Args:
            watch: the job.
            state: its deciding state; None where it wrote none.
            died: how its process ended, for a job whose state does not tell.
        """
        log, word = log_of(watch.sweep, watch.job, state), state["state"] if state else None
        failures: dict[str, Failed] = {}  # by the number of the cell in its job
        general = None
        if word == "failed":
            failures = {
                number: JobFailed(f"{failed['error']}; {log}", failed["code"], failed["trace"])
                for number, failed in state["failures"].items()
            }
            general = next(iter(failures.values()))
        elif word != "done":
            printed = last_lines(log)
            how = f"out of memory; {died}" if OUT_OF_MEMORY.search(printed) else died
            if not printed and is_disk_full(watch.sweep.results):
                how += f"; the disk of {watch.sweep.results} is full"
            general = JobFailed(f"{how}; {log}" if printed else f"it never began; {how}", 1, printed)
        store = Store()
        for number, cell in enumerate(watch.cells):
            failure = failures.get(str(number))
            if failure is None and word in ("done", "failed"):  # a job that failed names each cell that did
                cell.run = cell.run.with_request(rescore=False, explain=False)  # done
            records = cell.check_finished(store, failure or general)
            if cell.finished:
                for benchmark, record in records.items():
                    print_line(f"{cell.words}: {benchmark} {record.scores_text()}")
            elif cell.failure is None:
                cell.failure = Failed(f"its job is done, but not all its records are in {watch.sweep.results}; {log}")
            if cell.failure:
                self.print_failure(cell)

    def print_failure(self, cell: Cell) -> None:
        """Print why a cell failed, as the command of this cell alone would."""
        report_error(cell.command, cell.failure, self.traces)


class InProcess(Dispatcher):
    """Runs cells one after the other in this process, as -m does without another launcher."""

    def send(self, title: str, cells: list[Cell], results: Path, wait: bool = True, dry_run: bool = False) -> None:
        for cell in cells:
            if cell.failure:
                self.print_failure(cell)
        for number, cell in enumerate(cells, 1):
            if cell.failure:
                continue
            print_line(f"{number} of {len(cells)}: {cell.words}")
            try:
                cell.psnr = first_psnr(do_run(cell.run.with_request(wait=wait)))
                cell.finished = True
            except BrokenPipeError:
                raise
            except Exception as error:
                cell.failure = error
                self.print_failure(cell)


def is_disk_full(folder: Path) -> bool:
    """Whether a folder's disk has no room for a file; False where that is unknown."""
    try:
        return shutil.disk_usage(folder)[2] < 2**14
    except OSError:
        return False


def last_lines(log: Path) -> str:
    """The last 15 lines of a file; empty where it cannot be read."""
    try:
        return "".join(f"{line}\n" for line in read_regular(log).decode(errors="replace").splitlines()[-15:])
    except OSError:
        return ""
