"""Memory that is freed: kept for the next tensors, and given back in the end."""

import subprocess
import sys

import pytest

PROBE = """
import resource
from contextlib import nullcontext
from pathlib import Path

import torch

from nsr_cli.engine import heap

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

torch.set_num_threads(1)
for context in (nullcontext, heap.keep_freed_memory):
    before, began = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with context():
        for _ in range(40):  # the first few find no place that is large enough
            torch.ones(2**24)  # 64 MiB
        faults, held = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began, resident() - before
    print(faults, held, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc, on Linux")
def test_freed_memory_is_kept_for_the_next_tensors_and_given_back_in_the_end():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    usual, kept = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    assert kept[0] < usual[0] / 2  # pages that the system had to clear
    assert usual[1] < 30 < 60 < kept[1] and kept[2] < 30  # MiB
