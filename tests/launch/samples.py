"""A run, and what jobs say of themselves, made up."""

import json
import socket
import subprocess

from nsr_cli.launch.sweep import Sweep, state_file
from nsr_cli.runs.run import Request, Run
from nsr_cli.runs.spec import Model, Spec

GONE = subprocess.Popen(["true"])  # a process that has been
GONE.wait()
BICUBIC = Spec(
    task={"name": "sr", "target": "nsr_cli.tasks.sr.SuperResolution", "scale": 2},
    model=Model("bicubic", "nsr_cli.classical.bicubic.upscale", {"scale": 2}, ["luma", "rgb"]),
    sparsity={"gate": "none"},
)


def bicubic(benchmark: str, **request) -> Run:
    return Run(BICUBIC, Request([benchmark], **request))


def say(sweep: Sweep, index: int, state: str, rank: int = 0, **more) -> None:
    """Write what a process of a job says of itself; it is not there any longer."""
    who = {"host": socket.gethostname(), "pid": GONE.pid, "started": 1.0, "rank": rank, "world": 2, "attempt": 0}
    content = {"state": state, "time": 10 + rank, "seconds": 60, **who, **more}
    if state == "failed":
        failure = {"error": "RuntimeError: no", "code": 1, "trace": "", **more}
        content |= failure | {"failures": {"0": failure}}
    state_file(sweep.folder, index, rank).write_text(json.dumps(content))
