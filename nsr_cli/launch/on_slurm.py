"""The jobs of a sweep on Slurm: submitted as few arrays, followed in the queue until each has ended."""

import contextlib
import shutil
import time
from collections import Counter
from pathlib import Path

from nsr_cli.engine.interrupts import deferred_signals
from nsr_cli.errors import Failed, UserError
from nsr_cli.launch import slurm
from nsr_cli.launch.cells import Cell, Watched
from nsr_cli.launch.dispatch import Dispatcher
from nsr_cli.launch.sweep import Sweep, read_sweep
from nsr_cli.words import plural, print_line


class OnSlurm(Dispatcher):
    """Submits jobs to Slurm, in as few arrays as it allows. They go on when this process ends."""

    place = "slurm"
    pauses = (0.5, 20.0)  # seconds between looks at the queue, at first and at most
    grace = 15.0  # seconds out of the queue before Slurm is asked how a job without a final state ended
    lag = 75.0  # seconds by which a network file system may delay a job's state
    least = {
        **dict.fromkeys(("timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "array_parallelism"), 1),
        **dict.fromkeys(("mem_gb", "gpus_per_node", "signal_delay_s"), 0),  # mem_gb=0: all memory of a node
    }

    def __init__(self, **settings):
        super().__init__(**settings)
        for name, least in self.least.items():
            if (value := self.settings[name]) is not None and value < least:  # Slurm would not name the key
                raise UserError(f"hydra.launcher.{name}={value}: expected a whole number, {least} or above")

    def check(self, wait: bool) -> None:
        if not all(map(shutil.which, ("sbatch", "squeue", "scontrol"))):
            raise UserError("hydra/launcher=slurm: no Slurm on this machine (no sbatch in PATH); expected a login node")

    def adopt(self, groups: list[list[Cell]], results: Path) -> tuple[list[Watched], list[list[Cell]]]:
        """(queued jobs of other sweeps that make some of the groups, the other groups)."""
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
            print_line(f"{count} are in the queue already, in {folder}")
        return adopted, new

    def submit(self, title: str, groups: list[list[Cell]], results: Path) -> list[Watched]:
        watched, texts = self.create_jobs(title, groups, results)
        sweep = watched[0].sweep
        with deferred_signals() as interrupts:  # half a submission would leave jobs that no file lists
            try:
                count, refusal = slurm.submit(sweep, texts, self.settings)
            except BaseException:
                self.remove_unsubmitted(sweep)
                raise
            print_line(
                f"submitted {plural(count, 'job')} as {', '.join(a for *_, a in sweep.arrays())}: {sweep.folder}"
            )
            for watch in watched[count:]:
                for cell in watch.cells:
                    cell.failure = Failed(f"not submitted, for Slurm refuses more: {refusal}; repeat the command later")
                    self.print_failure(cell)
            if interrupts.pending():
                print_detached(watched[:count])
                interrupts.end_process()
        return watched[:count]

    def remove_unsubmitted(self, sweep: Sweep) -> None:
        """Remove a sweep's folder, unless some of its jobs may be in the queue."""
        queued = slurm.queue()
        if queued is None or any(name == sweep.name for name, _ in queued):
            print_line(f"some jobs may be in the queue, and scancel --me ends them; {sweep.folder} lists them")
            return
        shutil.rmtree(sweep.folder)
        with contextlib.suppress(OSError):  # other sweeps, or runs, are there
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
                    self.note_end(watch, state, slurm.describe_end(facts))
                    del left[key]
                shown = self.print_counts(watched, left, queued, shown)
                if left:
                    time.sleep(pause)
                    pause = min(1.2 * pause, self.pauses[1])
        except KeyboardInterrupt:
            print_detached(list(left.values()))
            raise

    def print_counts(
        self, watched: list[Watched], left: dict, queued: dict[tuple[str, int], slurm.Queued] | None, before: str
    ) -> str:
        """Print how many jobs are done, running, pending and why, and failed, if it changed. Returns the text."""
        text = "Slurm does not answer (squeue); still waiting"
        if queued is not None:
            states = [queued[key] for key in left if key in queued]
            reasons = ", ".join(dict.fromkeys(entry.reason for entry in states if entry.is_pending and entry.reason))
            pending = sum(entry.is_pending for entry in states)
            failed = sum(any(cell.failure for cell in watch.cells) for watch in watched)
            text = f"{len(watched) - len(left) - failed} of {len(watched)} done, {len(states) - pending} running"
            text += f", {pending} pending" if pending else ""
            text += f" ({reasons})" if reasons else ""
            text += f", {failed} failed" if failed else ""
        if text != before:
            print_line(text)
        return text


def print_detached(watched: list[Watched]) -> None:
    """Print that the jobs go on, and how to see and end them."""
    arrays = sorted({array for watch in watched for _, _, array in watch.sweep.arrays()})
    print_line(
        f"\nnot waiting any longer; the jobs go on: `nsr status` shows them, `scancel {' '.join(arrays)}` ends them"
    )
