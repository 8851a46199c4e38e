"""What a sweep of ten thousand runs weighs: submitting it, and `nsr status` and `nsr table` over its results.

    python tests/bench_sweeps.py [RUNS]

The cluster is simulated by commands that answer as Slurm's do; all else is real. Submitting takes minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from nsr_cli.commands.composing import resolved_values
from nsr_cli.commands.config import run_of
from nsr_cli.commands.hydra_setup import register_with_hydra
from nsr_cli.folders import package_folder
from nsr_cli.launch.sweep import read_sweep, state_file
from nsr_cli.runs.record import Record, Score, write_record

SLURM = {
    "sbatch": "echo Submitted batch job $$",
    "scontrol": "echo 'MaxArraySize            = 1001'",
    "srun": "true",
    "squeue": "cat queue.txt 2>/dev/null || true",
}
TAUS = (0.1, 1, 10, 0.2, 0.5, 2, 5, 20, 50, 100)
PROBE = (
    "import resource, sys; from nsr_cli.cli import run; code = run(sys.argv[1:]); "
    "own = resource.getrusage(resource.RUSAGE_SELF); "
    "print(own.ru_utime + own.ru_stime, own.ru_maxrss, file=sys.stderr); sys.exit(code)"
)


def main(runs: int) -> None:
    seeds = range(runs // len(TAUS))
    listed = ",".join(map(str, seeds))
    sweep = f"ablate -m hydra/launcher=slurm wait=false sparsity=softmax tau={','.join(map(str, TAUS))} seed={listed}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        for command, text in SLURM.items():
            (folder / "bin" / command).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / command).chmod(0o755)
        show("submit", runs, folder, sweep)
        simulate(folder / "results", seeds)
        show("status", runs, folder, "status")
        show("table 1", runs, folder, "table 1 save=false")
        show("table 1, a seed", runs, folder, "table 1 save=false seeds=[0]")
        show("table 1, all seeds", runs, folder, f"table 1 save=false seeds=[{listed}]")
        show("repeat: submit the rest", runs, folder, sweep)


def show(what: str, runs: int, folder: Path, line: str) -> None:
    """Run a command of nsr in a process of its own, and say what it took."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NSR_", "SLURM_"))}
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    began = time.monotonic()
    command = [sys.executable, "-c", PROBE, *line.split()]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"nsr {line[:80]}: {done.stderr}")
    *_, cpu, memory = map(float, done.stderr.split()[-2:])
    each = 1000 * cpu / runs
    print(
        f"{what:24} {seconds:7.2f} s, {cpu:7.2f} s of CPU, {each:6.2f} ms a run  {memory / 1024:5.0f} MiB", flush=True
    )


def simulate(results: Path, seeds: range) -> None:
    """Write what the jobs would: folders, records of a hundred images, states; a few run, wait, or have failed."""
    (sweep,) = (read_sweep(folder) for folder in (results / "sweeps").iterdir())
    jobs = {job.run: job for job in sweep.jobs}
    run = run_of(resolved_values(composed("sparsity=softmax")), "ablate").with_request(results=str(results))
    numbers = {f"{i}.png": {"psnr": 30 + i / 100, "ssim": 0.9} for i in range(100)}
    scores = {c.name: Score(c, {"psnr": 30.495, "ssim": 0.9}, numbers) for c in run.conventions("embedded_val")}
    queue = []
    for number, (seed, tau) in enumerate((seed, tau) for seed in seeds for tau in TAUS):
        spec = replace(run.spec, sparsity={**run.spec.sparsity, "tau": tau}).with_seed(seed)
        own = replace(run, spec=spec)
        job = jobs[own.name]
        ends = {7: "failed", 8: "running", 9: "pending"}.get(number % 100, "done")
        if ends in ("running", "pending"):
            shown = "RUNNING|None|n1" if ends == "running" else "PENDING|Priority|"
            queue.append(f"1_{job.index}|nsr-{sweep.name}.0|{shown}\n")
        if ends != "pending":
            state_file(sweep.folder, job.index).write_text(json.dumps(state(ends)))
            own.folder.mkdir(parents=True)
        if ends == "done":
            budget = {"steps": 2000, "patches": 4000, "seconds": 60}
            cost = {"macs": 1e6, "overhead": 1e3, "parameters": 1e5}
            record = Record(own.name, spec.signature, spec.signed, "embedded_val", scores, {}, cost, trained=budget)
            write_record(own.record("embedded_val"), record)
    (results.parent / "queue.txt").write_text("".join(queue))


def composed(*overrides: str) -> DictConfig:
    register_with_hydra()
    with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
        return compose("ablate", list(overrides))


def state(word: str) -> dict:
    """What a job says of itself."""
    process = {"host": "n1", "pid": 1, "started": None, "rank": 0, "world": 1}
    error = {"error": "RuntimeError: simulated", "code": 1, "trace": ""}
    more = {**error, "failures": {"0": error}} if word == "failed" else {}
    return {"state": word, **process, "attempt": 0, "time": 0, "seconds": 60, **more}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
