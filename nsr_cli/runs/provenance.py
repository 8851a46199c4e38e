"""The provenance of a record: date, device, versions, commit."""

import contextlib
import os
import platform
import subprocess
import time
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path

import torch

from nsr_cli.folders import SUBMITTED_CODE, code_digest


def provenance(device: torch.device) -> dict:
    """Date, device, threads, versions and commit of this process, as a record's ``made``."""
    submitted = os.environ.get(SUBMITTED_CODE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "opencv-python-headless")},
        "commit": commit(),
        **({"code": "changed after it was submitted"} if submitted and submitted != code_digest() else {}),
    }


def cpu() -> str:
    """The architecture of the CPU, and its vector instructions, by which rounding differs."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@lru_cache
def commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package, or without git."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    code = [name for name in ("nsr_cli", "conf", "experiments") if (checkout / name).is_dir()]
    with contextlib.suppress(OSError):
        git = partial(subprocess.run, cwd=checkout, capture_output=True, text=True, errors="replace")
        name = git(["git", "describe", "--always"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", *code]).stdout  # results change while runs are made
        return name + ("-dirty" if changed else "") or None
    return None
