"""A real Slurm for tests of what talks to one."""

import os
from collections.abc import Iterator

import mini_slurm
import pytest

FOREIGN = (*mini_slurm.FOREIGN, "SUBMITIT_", "NSR_")


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment of a shell on a cluster of two nodes, each with 4 CPUs and 2 GPUs that are none."""
    if missing := mini_slurm.missing_programs():
        pytest.skip(f"needs Slurm, and {', '.join(missing)} not found: apt-get install slurm-wlm munge")
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with mini_slurm.cluster() as variables:
        yield own | variables
