"""What a sweep of ten thousand runs weighs: submitting it, and `nsr status` and `nsr table` over its results.

    python tests/bench_sweeps.py [RUNS]

The cluster is simulated by commands that answer as Slurm's do; all else is real. Submitting takes minutes.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from nsr_cli.commands.settings import identify, identity

from nsr_cli.engine.conventions import conventions
from nsr_cli.folders import package_folder

SLURM = {
    "sbatch": "echo Submitted batch job $$",
    "scontrol": "echo 'MaxArraySize            = 1001'",
    "srun": "true",
    "squeue": "cat queue.txt 2>/dev/null || true",
}
TAUS = (0.1, 1, 10, 0.2, 0.5, 2, 5, 20, 50, 100)
PROBE = (
    "import resource, sys; from nsr_cli.cli import run; code = run(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
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
    memory = int(done.stderr.split()[-1]) / 1024
    print(f"{what:24} {seconds:7.2f} s  {1000 * seconds / runs:6.2f} ms a run  {memory:5.0f} MiB", flush=True)


def simulate(results: Path, seeds: range) -> None:
    """Write what the jobs would: folders, records of a hundred images, states; a few run, wait, or have failed."""
    ((sweep),) = (results / "sweeps").iterdir()
    jobs = {job["run"]: job for job in json.loads((sweep / "sweep.json").read_text())["jobs"]}
    with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
        cfg = compose("ablate", ["sparsity=softmax"])
        signed = identity(cfg)
    convention = conventions({"name": "sr", "scale": 2}, "embedded_val", list(cfg.model.reads))[0]
    images = {f"{i}.png": {"psnr": 30 + i / 100, "ssim": 0.9} for i in range(100)}
    score = {"convention": convention.spelled_out(), "psnr": 30.5, "ssim": 0.9, "images": images}
    (results / "records" / "smoke").mkdir(parents=True)
    queue = []
    for number, (seed, tau) in enumerate((seed, tau) for seed in seeds for tau in TAUS):
        own = copy.deepcopy(signed)
        own["model"]["tau"], own["training"]["seed"] = tau, seed
        weights = identify(cfg, own)
        job = jobs[weights.name]
        ends = {7: "failed", 8: "running"}.get(number % 100, "done")
        process = {"host": "n1", "pid": 1, "started": None, "rank": 0, "world": 1}
        state = {"state": ends, **process, "attempt": 0, "time": 0, "seconds": 60}
        if number % 100 in (8, 9):
            shown = "RUNNING|None|n1" if ends == "running" else "PENDING|Priority|"
            queue.append(f"1_{job['index']}|nsr-{sweep.name}.0|{shown}\n")
        if number % 100 == 9:
            continue
        if ends == "failed":
            error = {"error": "RuntimeError: simulated", "code": 1, "trace": ""}
            state |= {**error, "failures": {"0": error}}
        (sweep / "states" / f"{job['index']}.json").write_text(json.dumps(state))
        (results / "runs" / weights.name).mkdir(parents=True)
        if ends == "done":
            record = {
                "format": 1,
                "run": weights.name,
                "signature": weights.signature,
                "benchmark": "embedded_val",
                "config": own,
                "cost": {"macs": 1e6, "overhead": 1e3, "parameters": 1e5},
                "trained": {"steps": 2000, "patches": 4000, "seconds": 60},
                "scores": {convention.name: score},
            }
            (results / job["records"][0]).write_text(json.dumps(record))
    (results.parent / "queue.txt").write_text("".join(queue))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
