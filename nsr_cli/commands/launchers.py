"""Hydra's launchers of nsr: a sweep as jobs elsewhere, each waited for, each end reported."""

import contextlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands import jobs
from nsr_cli.commands.cells import Cell, cells_of
from nsr_cli.commands.composing import Composer
from nsr_cli.commands.recorded import scores_of
from nsr_cli.commands.settings import check_knobs
from nsr_cli.engine.interrupts import deferred
from nsr_cli.errors import Failed, JobFailed, UserError
from nsr_cli.files import check_writable
from nsr_cli.launch import local, slurm
from nsr_cli.launch.job import described, do
from nsr_cli.launch.progress import log_of
from nsr_cli.launch.sweep import Job, Sweep, begin, read_sweep
from nsr_cli.words import plural

OUT_OF_MEMORY = re.compile("exceeded memory limit|oom[-_ ]kill", re.IGNORECASE)  # Slurm's words, in a job's log


class Ended(JobReturn):
    """A cell's end. Hydra's own class raises the first failure, and the batches behind it would not be tried."""

    @property
    def return_value(self) -> None:
        return None


@dataclass(frozen=True)
class Watched:
    """A job that is waited for, of this sweep or of another one that had it before, and the cells that need it."""

    sweep: Sweep
    job: Job
    cells: list[Cell]

    @property
    def key(self) -> tuple[str, int]:
        return self.sweep.name, self.job.index


class SweepLauncher(Launcher):
    """What the launchers share: what is done is skipped, the rest is submitted and followed, every failure is named."""

    def __init__(self, **settings):
        self.settings = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in settings.items()}

    @property
    def processes(self) -> int:
        """Of each job."""
        return self.settings.get("nodes", 1) * self.settings.get("tasks_per_node", 1)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        verb, config = self.config.hydra.job.config_name, self.config
        composer = Composer(partial(self.context.config_loader.load_sweep_config, config))
        check_knobs(config)
        results = Path(config.results).absolute()
        cells = cells_of(verb, job_overrides, composer, results, self.processes)
        if not config.dry_run and not all(cell.finished or cell.failure for cell in cells):
            check_writable("results", config.results)
        self.send(f"nsr {verb}", cells, results, config.wait, config.dry_run)
        jobs.ENDED.extend(cell.failure for cell in cells if cell.failure or cell.finished)
        return [Ended() for _ in cells]

    def send(self, title: str, cells: list[Cell], results: Path, wait: bool = True, dry_run: bool = False) -> None:
        """Have the cells done that are not; afterwards each knows how it ended, unless that is not waited for."""
        self.check(wait)
        if done := sum(cell.finished for cell in cells):
            say(f"{done} of {len(cells)} are done already")
        for cell in cells:
            if cell.failure:
                tell(cell)
        groups: dict[Path, list[Cell]] = {}  # of cells that need the same run
        for cell in cells:
            if not cell.finished and not cell.failure:
                groups.setdefault(cell.run.folder, []).append(cell)
        if dry_run:
            for folder, group in groups.items():
                say(f"would be submitted: {'; '.join(cell.words for cell in group)}\n  {folder.resolve()}")
        elif groups:
            adopted, new = self.adopt(list(groups.values()), results)
            watched = [*adopted, *(self.submit(title, new, results) if new else [])]
            if wait:
                self.follow(watched)
            else:
                say("wait=false: `nsr status` shows how they do; the command without wait=false waits for them")

    def begin(self, title: str, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[str]]:
        """A new sweep's folder, with a job for each group of cells; and each job as text."""
        planned = []
        for index, group in enumerate(groups):
            records = [record for cell in group for record in cell.records(results)]
            planned.append(Job(index, group[0].run.folder.name, [cell.words for cell in group], records))
        sweep = begin(results, title, self.place, planned)
        texts = [
            described(sweep, job, [(cell.verb, cell.config) for cell in group])
            for job, group in zip(planned, groups, strict=True)
        ]
        return [Watched(sweep, job, group) for job, group in zip(planned, groups, strict=True)], texts

    def end(self, watch: Watched, state: dict | None, died: str) -> None:
        """Note how a job ended, and say it.

        Args:
            watch: the job.
            state: what it says of itself.
            died: what else is known of that, for a job that does not say it.
        """
        log, word = log_of(watch.sweep, watch.job, state), state["state"] if state else None
        failures: dict[str, Failed] = {}  # by the number of the cell in its job
        general = None
        if word == "failed":
            failures = {
                number: JobFailed(f"{told['error']}; {log}", told["code"], told["trace"])
                for number, told in state["failures"].items()
            }
            general = next(iter(failures.values()))
        elif word != "done":
            printed = tail(log)
            how = f"out of memory; {died}" if OUT_OF_MEMORY.search(printed) else died
            general = JobFailed(f"{how}; {log}" if printed else f"it never began; {how}", 1, printed)
        for number, cell in enumerate(watch.cells):
            config = OmegaConf.create(cell.config)
            records = cell.settle(config, failures.get(str(number), general))
            if cell.finished:
                for benchmark, record in records.items():
                    say(f"{cell.words}: {benchmark} {scores_of(record)}")
            elif general is None and not (config.rescore or config.explain):
                cell.failure = Failed(f"its job is done, but not all its records are in {watch.sweep.results}; {log}")
            if cell.failure:
                tell(cell)


class PlainLauncher(SweepLauncher):
    """One after the other in this process: what -m does without another launcher."""

    def send(self, title: str, cells: list[Cell], results: Path, wait: bool = True, dry_run: bool = False) -> None:
        for cell in cells:
            if cell.failure:
                tell(cell)
        for number, cell in enumerate(cells, 1):
            if not cell.failure:
                say(f"{number} of {len(cells)}: {cell.words}")
                try:
                    do(cell.verb, cell.config | {"wait": wait})
                    cell.finished = True
                except BrokenPipeError:
                    raise
                except Exception as error:
                    cell.failure = error
                    tell(cell)


class SlurmLauncher(SweepLauncher):
    """Jobs of Slurm, as few arrays; they go on when this process ends."""

    place = "slurm"
    pauses = (0.5, 20.0)  # seconds between looks at the queue, at first and in the end
    grace = 15.0  # seconds out of the queue before Slurm is asked how a job ended that does not say it
    lag = 75.0  # seconds for which what a job has said may be hidden by a network's file system
    least = {
        **dict.fromkeys(("timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "array_parallelism"), 1),
        **dict.fromkeys(("mem_gb", "gpus_per_node", "signal_delay_s"), 0),  # mem_gb=0 is all of a node's
    }

    def __init__(self, **settings):
        super().__init__(**settings)
        for name, least in self.least.items():
            if (value := self.settings[name]) is not None and value < least:  # Slurm would not name it
                raise UserError(f"hydra.launcher.{name}={value}: expected a whole number, {least} or above")

    def check(self, wait: bool) -> None:
        slurm.check_here()

    def adopt(self, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[list[Cell]]]:
        """Those of whose runs another sweep has a job in the queue, and the rest."""
        queued = slurm.queue()
        if queued is None:
            raise Failed("Slurm does not answer (squeue); nothing was submitted")
        there = {}
        for sweep in filter(None, [read_sweep(results / "sweeps" / name) for name in {name for name, _ in queued}]):
            states = sweep.states()
            for job in sweep.jobs:
                leaving = states.get(job.index, {}).get("state") == "failed"
                if (sweep.name, job.index) in queued and not leaving:
                    there[job.run] = sweep, job
        adopted, new = [], []
        for group in groups:
            sweep, job = there.get(group[0].run.folder.name, (None, None))
            if job and all(cell.is_made_by(job, results) for cell in group):
                adopted.append(Watched(sweep, job, group))
            else:
                new.append(group)
        for folder, count in Counter(watch.sweep.folder for watch in adopted).items():
            say(f"{count} are in the queue already, in {folder}")
        return adopted, new

    def submit(self, title: str, groups: list[list[Cell]], results: Path) -> list[Watched]:
        watched, texts = self.begin(title, groups, results)
        sweep = watched[0].sweep
        with deferred() as interrupts:  # half a submission would leave jobs that do not find what they are for
            try:
                count, refusal = slurm.submit(sweep, texts, self.settings)
            except BaseException:
                self.withdraw(sweep)
                raise
            say(f"submitted {plural(count, 'job')} as {', '.join(a for *_, a in sweep.arrays())}: {sweep.folder}")
            for watch in watched[count:]:
                for cell in watch.cells:
                    cell.failure = Failed(f"not submitted, for Slurm refuses more: {refusal}; repeat the command later")
                    tell(cell)
            if interrupts.look():
                say_that_they_go_on(watched[:count])
                interrupts.leave()
        return watched[:count]

    def withdraw(self, sweep: Sweep) -> None:
        """Remove a sweep of which nothing was submitted."""
        queued = slurm.queue()
        if queued is None or any(name == sweep.name for name, _ in queued):
            say(f"some jobs may be in the queue: scancel --me; what they are is in {sweep.folder}")
            return
        shutil.rmtree(sweep.folder)
        with contextlib.suppress(OSError):  # there are others, and runs
            sweep.folder.parent.rmdir()
            sweep.results.rmdir()

    def follow(self, watched: list[Watched]) -> None:
        left = {watch.key: watch for watch in watched}
        last_seen = dict.fromkeys(left, time.monotonic())
        pause, shown = self.pauses[0], ""
        try:
            while left:
                queued, now = slurm.queue(), time.monotonic()
                for key, watch in list(left.items()):
                    if queued is None or key in queued:
                        last_seen[key] = now
                        continue
                    state, facts = watch.sweep.state_of(watch.job.index), {}
                    if not state or state["state"] not in ("done", "failed"):
                        if now - last_seen[key] < self.grace:
                            continue
                        facts = slurm.facts_of(watch.sweep.slurm_job(watch.job.index) or "")
                        if facts.get("JobState") in slurm.ALIVE:  # squeue does not show all jobs to everyone
                            last_seen[key] = now
                            continue
                        if facts.get("JobState") == "COMPLETED" and now - last_seen[key] < self.lag:
                            continue
                    self.end(watch, state, slurm.ending(facts))
                    del left[key]
                shown = self.show(watched, left, queued, shown)
                if left:
                    time.sleep(pause)
                    pause = min(1.2 * pause, self.pauses[1])
        except KeyboardInterrupt:
            say_that_they_go_on(list(left.values()))
            raise

    def show(
        self, watched: list[Watched], left: dict, queued: dict[tuple[str, int], slurm.Queued] | None, before: str
    ) -> str:
        """Say how many are done, run, pend and why, if that has changed."""
        text = "Slurm does not answer (squeue); still waiting"
        if queued is not None:
            states = [queued[key] for key in left if key in queued]
            reasons = ", ".join(dict.fromkeys(entry.reason for entry in states if entry.pends and entry.reason))
            pending = sum(entry.pends for entry in states)
            failed = sum(any(cell.failure for cell in watch.cells) for watch in watched)
            text = f"{len(watched) - len(left) - failed} of {len(watched)} done, {len(states) - pending} running"
            text += f", {pending} pending" if pending else ""
            text += f" ({reasons})" if reasons else ""
            text += f", {failed} failed" if failed else ""
        if text != before:
            say(text)
        return text


class LocalLauncher(SweepLauncher):
    """Several jobs at once on this machine; they end when this process does, and keep what they have."""

    place = "local"

    def check(self, wait: bool) -> None:
        local.slots(**self.settings)  # raises for what they cannot be
        if not wait:
            raise UserError("wait=false: the jobs of hydra/launcher=local end with the command; expected wait=true")

    def adopt(self, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[list[Cell]]]:
        return [], groups

    def submit(self, title: str, groups: list[list[Cell]], results: Path) -> list[Watched]:
        watched, self.texts = self.begin(title, groups, results)
        self.places = local.slots(**self.settings, wanted=len(groups))
        say(f"{plural(len(watched), 'job')}, {len(self.places)} at once: {watched[0].sweep.folder}")
        return watched

    def follow(self, watched: list[Watched]) -> None:
        with contextlib.closing(local.run_all(watched[0].sweep, self.texts, self.places)) as ends:
            for job, how in ends:
                watch = watched[job.index]
                self.end(watch, watch.sweep.state_of(job.index), how)


def say_that_they_go_on(watched: list[Watched]) -> None:
    arrays = sorted({array for watch in watched for _, _, array in watch.sweep.arrays()})
    say(f"\nnot waiting any longer; the jobs go on: `nsr status` shows them, `scancel {' '.join(arrays)}` ends them")


def tail(log: Path) -> str:
    """The last lines of a file, which need not be there."""
    try:
        return "".join(f"{line}\n" for line in log.read_text(errors="replace").splitlines()[-15:])
    except OSError:
        return ""


def tell(cell: Cell) -> None:
    """Say why a cell failed, as the command itself would that makes it alone."""
    words = cell.words.removeprefix(f"{cell.verb} ")  # those of a table's cells begin with it
    jobs.tell(f"nsr {cell.verb} {words}".rstrip(), cell.failure, cell.verb)


def say(text: str) -> None:
    print(text, flush=True)
