"""Which of several processes this one is, by what torchrun or Slurm's srun says. Knows nothing of torch."""

import ctypes
import os
import re
import signal
import socket
import sys
from pathlib import Path


def world_size() -> int:
    """Processes that torchrun or srun has started together; 1 for a process alone."""
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)


def rank() -> int:
    """This process among all of them; 0 for a process alone."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) if world_size() > 1 else 0


def local_rank() -> int:
    """This process among those on its machine; 0 for a process alone."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0) if world_size() > 1 else 0


def slurm_rendezvous() -> dict:
    """What torch asks of a process in a step of Slurm: where the first one listens, its rank, how many there are."""
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    port = 20000 + (31 * job + step) % 12000  # below those that systems give away
    return {"url": f"tcp://{first_host()}:{port}", "rank": rank(), "world_size": world_size()}


def first_host() -> str:
    """The machine of rank 0; by its address, where its name in Slurm is none of the network."""
    prefix, number = re.match(r"([^,\[]+)(?:\[(\w+))?", os.environ["SLURM_STEP_NODELIST"]).groups()
    try:
        return socket.gethostbyname(f"{prefix}{number or ''}")
    except OSError:
        return os.environ["SLURM_LAUNCH_NODE_IPADDR"]


def end_with_parent() -> None:
    """Be sent SIGTERM when the process that started this one ends, however it ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def start_time(pid: int) -> float | None:
    """When a process of this machine began, by a clock of its own that tells it from a later one with the same number.

    None where there is no such process, or on a system that does not say.
    """
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
