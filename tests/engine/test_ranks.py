"""Several processes on one training: the same losses as one process, one writer, and all leave together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nsr_cli.engine.ranks import Ranks

CHECKOUT = Path(__file__).resolve().parents[2]
LINE = "train sparsity=softmax blocks=1 units=4 width=1 batch=4 threads=1 validate_every=1000 checkpoint_minutes=1000"


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NSR_")}
    return kept | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, line: str, processes: int) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "nsr_cli", *line.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(), **pipes)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def losses(folder: Path) -> list[float]:
    (path,) = (folder / "results/runs").glob("*/stats.jsonl")
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "results/runs").glob("*/weights.pt")
    return torch.load(path, weights_only=True)["model"]


def test_a_process_alone_has_the_whole_batch_and_averages_nothing():
    tensor = torch.ones(3)
    assert Ranks().share(16) == slice(0, 16) and Ranks().average([tensor], torch.tensor(2.0)) == [2.0]
    assert Ranks().agree(True) is True and Ranks().agree(False) is False


def test_shares_make_up_the_batch():
    parts = [Ranks(rank, 4).share(16) for rank in range(4)]
    assert [i for part in parts for i in range(16)[part]] == list(range(16))


def test_two_processes_compute_what_one_does(tmp_path):
    line = f"{LINE} steps=100"
    code, out = finish(start(tmp_path / "one", line, 1))
    assert code == 0, out
    code, out = finish(start(tmp_path / "two", line, 2))
    assert code == 0, out
    assert out.count("training wdsr-") == 1 and "100 steps by 2 processes" in out  # the first alone speaks
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-4)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=2e-3)
    again = finish(start(tmp_path / "two", line, 2))  # nothing to do: all leave
    assert again[0] == 0 and "training" not in again[1]


def test_a_signal_to_one_process_stops_both_and_the_repeated_command_ends_in_the_same_bits(tmp_path):
    line = f"{LINE} steps=600"
    straight = start(tmp_path / "straight", line, 2)
    assert finish(straight)[0] == 0
    process = start(tmp_path / "stopped", line, 2)
    stats = tmp_path / "stopped/results/runs"
    deadline = time.monotonic() + 120
    while not [p for p in stats.glob("*/stats.jsonl") if p.read_text()] and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGTERM)
    code, out = finish(process)
    assert code != 0 and "stopped by SIGTERM after step" in out, out
    assert list(stats.glob("*/checkpoint-*.pt"))
    code, out = finish(start(tmp_path / "stopped", line, 2))
    assert code == 0 and "resuming after step" in out, out
    for name, tensor in weights(tmp_path / "straight").items():
        assert torch.equal(weights(tmp_path / "stopped")[name], tensor), name


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    code, out = finish(start(tmp_path, LINE.replace("batch=4", "batch=3"), 2))
    assert code != 0 and "batch=3: expected a multiple of 2, the processes that share it" in out
