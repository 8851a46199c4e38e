"""nsr status: the status of launched sweeps. No Hydra: there is nothing to compose."""

import contextlib
import os
from collections import Counter
from pathlib import Path

from nsr_cli.commands.plain import Arguments
from nsr_cli.errors import UserError
from nsr_cli.launch import slurm
from nsr_cli.launch.progress import WORDS, Progress, log_of, progress_of, records_in, seconds_left
from nsr_cli.launch.sweep import Sweep, read_sweep
from nsr_cli.words import clock, plural

HELP = """nsr status: the status of sweeps that hydra/launcher=slurm, slurm_ddp or local has launched

  nsr status           the last sweeps below the results, and the jobs of the newest
  nsr status FOLDER    the jobs of one sweep's folder, or the sweeps below other results

  --all                every job, not the first few of each kind
Results are looked for in NSR_RESULTS (default ./results).
"""
SWEEPS, JOBS = 10, 10  # lines shown, at most


def run(arguments: list[str]) -> int:
    """Run `nsr status`. Returns the exit code."""
    parser = Arguments()
    parser.add_argument("folder", nargs="?", default=os.environ.get("NSR_RESULTS", "results"))
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args(arguments)
    if options.help:
        print(HELP, end="")
        return 0
    folder = Path(options.folder)
    sweeps, unreadable = sweeps_in(folder)
    queue = slurm.queue() if any(sweep.place == "slurm" for sweep in sweeps) else {}
    if queue is None:
        print("Slurm does not answer (squeue): its pending and running jobs are not known\n")
    records = records_in(sweeps[0].results)
    progress = {sweep.name: progress_of(sweep, records, queue) for sweep in sweeps}
    if len(sweeps) > 1:
        print(overview(sweeps, progress), end="\n\n")
    print(details(sweeps[0], progress[sweeps[0].name], None if options.all else JOBS))
    if unreadable:
        print(f"\nleft out, because their sweep.json cannot be read: {', '.join(map(str, unreadable))}")
    return 0


def sweeps_in(folder: Path) -> tuple[list[Sweep], list[Path]]:
    """(sweeps, unreadable folders): the sweep in ``folder``, or the last ones below the results, newest first."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a sweep's, or results with sweeps below")
    if (folder / "sweep.json").exists():
        if sweep := read_sweep(folder):
            return [sweep], []
        raise UserError(f"{folder.resolve()}: its sweep.json is damaged; the logs of its jobs are in logs/ there")
    sweeps, unreadable = [], []
    for path in sorted((folder / "sweeps").glob("*/"), key=start_time, reverse=True):
        sweep = read_sweep(path)
        (sweeps if sweep else unreadable).append(sweep or path.absolute())
        if len(sweeps) == SWEEPS:
            break
    if not sweeps:
        found = f", but {', '.join(map(str, unreadable))} cannot be read" if unreadable else ""
        raise UserError(f"{folder.resolve()}: no sweep there{found}; hydra/launcher=slurm or local makes them")
    return sweeps, unreadable


def start_time(sweep: Path) -> float:
    """When a sweep's folder was made, in seconds since the epoch; 0 where it is gone."""
    for path in (sweep / "sweep.json", sweep):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0  # removed meanwhile


def overview(sweeps: list[Sweep], progress: dict[str, list[Progress]]) -> str:
    """A table with a line for each sweep."""
    from tabulate import tabulate

    lines = []
    for sweep in sweeps:
        counts = Counter(p.word for p in progress[sweep.name])
        lines.append([sweep.name, sweep.title, sweep.place, *(counts[word] or "" for word in WORDS)])
    return tabulate(lines, ["sweep", "command", "where", *WORDS])


def details(sweep: Sweep, progress: list[Progress], most: int | None) -> str:
    """The counts of a sweep, and its unfinished jobs: at most ``most`` of each kind, or all where that is None."""
    counts = Counter(p.word for p in progress)
    lines = [f"{sweep.folder}: {sweep.title}, {plural(len(progress), 'run')}"]
    lines.append("  " + ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word]))
    if (left := seconds_left(progress)) is not None:
        lines[-1] += f"; about {clock(left)} left"
    for word in WORDS[1:]:
        own = [p for p in progress if p.word == word]
        lines += ["", f"{word}:"] if own else []
        for p in own[:most]:
            lines.append(f"  {p.job}")
            lines += [f"    {text}" for text in details_of_job(sweep, p)]
        if len(own) > len(own[:most]):
            lines.append(f"  and {len(own) - most} more (--all shows them)")
    return "\n".join(lines)


def details_of_job(sweep: Sweep, p: Progress) -> list[str]:
    """The lines below a job's overrides: its progress or failure, its id, its log."""
    detail, own = p.detail, sweep.slurm_job(p.job.index)
    if p.word == "failed" and own and not (p.state and p.state["state"] == "failed"):
        detail += f"; {slurm.describe_end(slurm.facts_of(own))}"
    job = f"job {p.queued.job}" if p.queued else ""
    log = str(log_of(sweep, p.job, p.state)) if p.word == "failed" else ""
    return [text for text in (", ".join(filter(None, [detail, job])), log) if text]
