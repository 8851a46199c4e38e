"""This process among several, by the environment of torchrun or Slurm's srun. Does not import torch."""

import ctypes
import os
import re
import signal
import socket
import sys
from pathlib import Path

from nsr_cli.errors import UserError


def world_size() -> int:
    """The number of processes that torchrun or srun has started together; 1 for a process alone."""
    return _number_in("WORLD_SIZE", "SLURM_STEP_NUM_TASKS") or 1


def rank() -> int:
    """The number of this process among all of them; 0 for a process alone."""
    return _number_in("RANK", "SLURM_PROCID") if world_size() > 1 else 0


def local_rank() -> int:
    """The number of this process among those on its machine; 0 for a process alone."""
    return _number_in("LOCAL_RANK", "SLURM_LOCALID") if world_size() > 1 else 0


def _number_in(*variables: str) -> int:
    """The whole number in the first of these environment variables that is set; 0 where none is."""
    name = next(filter(os.environ.get, variables), None)
    value = os.environ[name] if name else "0"
    if not value.isdecimal():
        raise UserError(f"{name}={value}: expected a whole number, as torchrun or srun sets it")
    return int(value)


def slurm_rendezvous() -> dict:
    """Arguments of torch's rendezvous in a step of Slurm: the URL of rank 0, this rank, and the number of ranks."""
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    port = 20000 + (31 * job + step) % 12000  # below the ports that systems assign
    return {"url": f"tcp://{first_host()}:{port}", "rank": rank(), "world_size": world_size()}


def first_host() -> str:
    """The address of the first machine; where its name in Slurm has none, that of the launch node."""
    prefix, number = re.match(r"([^,\[]+)(?:\[(\w+))?", os.environ["SLURM_STEP_NODELIST"]).groups()
    try:
        return socket.gethostbyname(f"{prefix}{number or ''}")
    except OSError:
        return os.environ["SLURM_LAUNCH_NODE_IPADDR"]


def end_with_parent(parent: int | None = None) -> None:
    """Have the system send SIGTERM to this process when its parent ends, however that ends (on Linux).

    Args:
        parent: the id of the process that started this one. Exits if that has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if parent is not None and os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


def start_time(pid: int) -> float | None:
    """When a process of this machine began, in clock ticks since boot; tells it from a later one with the same id.

    None where there is no such process, or no /proc.
    """
    try:
        return float(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None
