"""Several processes on one training: the same losses as one process, one writer, and all leave together."""

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from terminal import start, wait_until
from tiny import FORKS

from nsr_cli import cli
from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint
from nsr_cli.engine.ranks import Ranks, join_processes
from nsr_cli.errors import Failed
from nsr_cli.files import hold_folder

LINE = "train sparsity=softmax blocks=1 units=4 width=1 batch=4 threads=1 validate_every=1000 steps=400"


def as_torchrun_does(rank: int, port: int, work: Callable, *given) -> None:
    """Do the work of one of two processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    work(rank, *given)


def two(work: Callable, *given) -> list:
    """Two processes with their work, started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [FORKS.Process(target=as_torchrun_does, args=(rank, port, work, *given)) for rank in (0, 1)]
    for process in processes:
        process.start()
    return processes


def training(rank: int, folder: Path, gate: str, minutes: float, signal_at: int | None, pause: float) -> None:
    """A training that pauses before each step, in seconds; the second process is sent SIGTERM in a step."""

    def batches(step: int) -> Batch:
        time.sleep(pause)
        if step == signal_at and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return tiny.batch_at(step)

    with join_processes(torch.device("cpu")) as ranks:
        tiny.run(folder, batches, model=tiny.network(gate), steps=100, minutes=minutes, ranks=ranks)


def pair(
    folder: Path, gate: str = "gumbel", minutes: float = 1e9, signal_at: int | None = None, pause: float = 0
) -> list:
    """The two processes of a training, started."""
    return two(training, folder, gate, minutes, signal_at, pause)


def exit_codes(processes: list) -> list[int]:
    for process in processes:
        process.join(timeout=300)
    return [process.exitcode for process in processes]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "weights.pt")["model"]


def assert_same_bits(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = weights(folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights of a training by two processes that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    assert exit_codes(pair(folder)) == [0, 0]
    return weights(folder)


def test_a_process_alone_has_the_whole_batch_and_averages_nothing():
    tensor = torch.ones(3)
    assert Ranks().share(16) == slice(0, 16) and Ranks().average([tensor], torch.tensor(2.0)) == [2.0]
    assert Ranks().broadcast(True) is True and Ranks().broadcast(False) is False


def test_shares_make_up_the_batch():
    parts = [Ranks(rank, 4).share(16) for rank in range(4)]
    assert [i for part in parts for i in range(16)[part]] == list(range(16))


def test_two_processes_compute_what_one_does(tmp_path):
    tiny.run(tmp_path / "one", model=tiny.network("softmax"), steps=100, minutes=1e9)
    assert exit_codes(pair(tmp_path / "two", "softmax")) == [0, 0]
    one, two = ([line["loss"] for line in tiny.lines_of(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 20 and two == pytest.approx(one, rel=1e-4)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=2e-3)


def test_a_signal_to_one_process_stops_both_and_the_repeated_training_ends_in_the_same_bits(tmp_path, straight):
    assert exit_codes(pair(tmp_path, signal_at=40)) == [128 + signal.SIGTERM] * 2
    (saved,) = checkpoint.checkpoints(tmp_path)  # by the first process
    assert 40 <= checkpoint.load(saved)["step"] < 60
    assert exit_codes(pair(tmp_path)) == [0, 0]
    assert_same_bits(tmp_path, straight)


def test_whichever_is_killed_at_random_instants_the_repeated_training_ends_in_the_same_bits(tmp_path, straight):
    instants = random.Random(0)
    for victims in ([0], [1], [1], [0, 1]):
        before = checkpoint.checkpoints(tmp_path)[-1:]
        processes = pair(tmp_path, minutes=0, pause=0.03)  # a checkpoint after every step; killed long before the end
        wait_until(lambda before=before: checkpoint.checkpoints(tmp_path)[-1:] > before)
        time.sleep(instants.uniform(0, 0.2))
        for victim in victims:
            os.kill(processes[victim].pid, signal.SIGKILL)
        codes = exit_codes(processes)
        assert all(code == (-signal.SIGKILL if i in victims else 1) for i, code in enumerate(codes)), codes
        for path in checkpoint.checkpoints(tmp_path):
            checkpoint.load(path)  # what has its name is whole
    assert exit_codes(pair(tmp_path)) == [0, 0]
    assert_same_bits(tmp_path, straight)
    assert not checkpoint.checkpoints(tmp_path)


def test_processes_that_see_other_checkpoints_are_refused(tmp_path):
    assert exit_codes(pair(tmp_path, signal_at=10)) == [143, 143]
    with pytest.raises(Failed, match="^this process would resume after step"):
        tiny.run(tmp_path, steps=100, ranks=Elsewhere(0, 2))


class Elsewhere(Ranks):
    """The first of two processes; the other one has no checkpoint."""

    def average(self, tensors, *numbers) -> list[torch.Tensor]:
        return [number / 2 for number in numbers]


def command(rank: int, folder: Path, line: str) -> None:
    """``nsr`` in a folder; what it prints lies there."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith("NSR_")]:
        del os.environ[name]
    said = os.open(f"said-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.exit(cli.run(shlex.split(line)))


def launched(torchrun: subprocess.Popen) -> list[int]:
    """The processes that torchrun has started, by rank."""
    found = {}
    for pid in subprocess.run(["pgrep", "-P", str(torchrun.pid)], capture_output=True, text=True).stdout.split():
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        found[next(v for v in variables if v.startswith("RANK="))] = int(pid)
    return [found[rank] for rank in sorted(found)]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_when_torchrun_alone_is_killed_its_processes_come_to_an_end_and_hold_the_run_no_longer(tmp_path):
    assert exit_codes(two(command, tmp_path / "straight", LINE)) == [0, 0]
    said = [(tmp_path / "straight" / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert "400 steps by 2 processes" in said[0] and said[1] == ""  # the first alone speaks
    (expected,) = (tmp_path / "straight/results/runs").iterdir()

    killed = tmp_path / "killed"
    killed.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    torchrun = start(killed, f"{LINE} checkpoint_minutes=0.005", launcher, OMP_NUM_THREADS="1")
    wait_until(lambda: list(killed.glob("results/runs/*/checkpoint-*.pt")))
    first, second = launched(torchrun)
    os.kill(first, signal.SIGSTOP)  # as long as the repeated command takes to notice
    torchrun.kill()
    try:
        again = two(command, killed, LINE)
        wait_until(lambda: (killed / "said-0.txt").exists() and "waiting" in (killed / "said-0.txt").read_text())
        os.kill(first, signal.SIGCONT)
        assert exit_codes(again) == [0, 0]
        said = (killed / "said-0.txt").read_text()
        assert f"is held by process {first} on " in said and "resuming after step" in said  # so that one can end it
        wait_until(lambda: not is_alive(first) and not is_alive(second))
        (run,) = (killed / "results/runs").iterdir()
        assert_same_bits(run, weights(expected))
        with hold_folder(run, wait=False, say=print):
            assert not list(run.glob(".*.tmp")) and not checkpoint.checkpoints(run)
    finally:
        for pid in filter(is_alive, (first, second)):
            os.kill(pid, signal.SIGKILL)
        torchrun.communicate()
    assert exit_codes(two(command, killed, LINE)) == [0, 0]  # nothing to do: all leave
    assert "training" not in (killed / "said-0.txt").read_text()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    codes = exit_codes(two(command, tmp_path, f"{LINE} batch=3"))
    assert 2 in codes and 0 not in codes  # one may fail because the other is gone
    said = (tmp_path / f"said-{codes.index(2)}.txt").read_text()
    assert "batch=3: expected a multiple of 2, the processes that share it" in said
