"""Several processes on one training: the same losses as one process, one writer, and all leave together."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from terminal import finish, start, wait_until

from nsr_cli.engine import checkpoint
from nsr_cli.engine.ranks import Ranks
from nsr_cli.files import hold

LINE = "train sparsity=softmax blocks=1 units=4 width=1 batch=4 threads=1 validate_every=1000 checkpoint_minutes=1000"


def launch(folder: Path, line: str, processes: int) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return start(folder, line, torchrun if processes > 1 else [], OMP_NUM_THREADS="1")


def losses(folder: Path) -> list[float]:
    (path,) = (folder / "results/runs").glob("*/stats.jsonl")
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "results/runs").glob("*/weights.pt")
    return torch.load(path, weights_only=True)["model"]


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


def saved(folder: Path) -> list[Path]:
    return sorted((folder / "results/runs").glob("*/checkpoint-*.pt"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights of a training by two processes that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    code, out = finish(launch(folder, f"{LINE} steps=400", 2))
    assert code == 0, out
    return weights(folder)


def assert_same_bits(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = weights(folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_a_process_alone_has_the_whole_batch_and_averages_nothing():
    tensor = torch.ones(3)
    assert Ranks().share(16) == slice(0, 16) and Ranks().average([tensor], torch.tensor(2.0)) == [2.0]
    assert Ranks().agree(True) is True and Ranks().agree(False) is False


def test_shares_make_up_the_batch():
    parts = [Ranks(rank, 4).share(16) for rank in range(4)]
    assert [i for part in parts for i in range(16)[part]] == list(range(16))


def test_two_processes_compute_what_one_does(tmp_path):
    line = f"{LINE} steps=100"
    code, out = finish(launch(tmp_path / "one", line, 1))
    assert code == 0, out
    code, out = finish(launch(tmp_path / "two", line, 2))
    assert code == 0, out
    assert out.count("training wdsr-") == 1 and "100 steps by 2 processes" in out  # the first alone speaks
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-4)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=0, atol=2e-3)
    again = finish(launch(tmp_path / "two", line, 2))  # nothing to do: all leave
    assert again[0] == 0 and "training" not in again[1]


def test_a_signal_to_one_process_stops_both_and_the_repeated_command_ends_in_the_same_bits(tmp_path, straight):
    line = f"{LINE} steps=400"
    process = launch(tmp_path, line, 2)
    wait_until(lambda: [p for p in (tmp_path / "results/runs").glob("*/stats.jsonl") if p.read_text()])
    os.kill(launched(process)[1], signal.SIGTERM)
    code, out = finish(process)
    assert code != 0 and "stopped by SIGTERM after step" in out, out
    assert saved(tmp_path)
    code, out = finish(launch(tmp_path, line, 2))
    assert code == 0 and "resuming after step" in out, out
    assert_same_bits(tmp_path, straight)


def test_whichever_is_killed_at_random_instants_the_repeated_command_ends_in_the_same_bits(tmp_path, straight):
    line, instants = f"{LINE} steps=400", random.Random(0)
    for victims in ("first", "second", "second", "all"):
        before = saved(tmp_path)[-1:]
        process = launch(tmp_path, f"{line} checkpoint_minutes=0", 2)  # a checkpoint after every step
        wait_until(lambda before=before: saved(tmp_path)[-1:] > before)
        first, second = launched(process)
        time.sleep(instants.uniform(0, 0.2))
        for pid in {"first": [first], "second": [second], "all": [process.pid, first, second]}[victims]:
            os.kill(pid, signal.SIGKILL)
        code, out = finish(process)
        assert code != 0, out
        wait_until(lambda pids=(first, second): not any(map(is_alive, pids)))  # torchrun ends the other one
        for path in saved(tmp_path):
            checkpoint.load(path)  # what has its name is whole
    code, out = finish(launch(tmp_path, line, 2))
    assert code == 0 and "resuming after step" in out, out
    assert_same_bits(tmp_path, straight)
    assert not list(tmp_path.rglob("*.tmp")) and not saved(tmp_path)


def test_when_torchrun_alone_is_killed_its_processes_come_to_an_end_and_hold_the_run_no_longer(tmp_path, straight):
    line = f"{LINE} steps=400"
    torchrun = launch(tmp_path, f"{line} checkpoint_minutes=0.005", 2)
    wait_until(lambda: saved(tmp_path))
    first, second = launched(torchrun)
    os.kill(first, signal.SIGSTOP)  # as long as the repeated command takes to notice
    torchrun.kill()
    try:
        again, said = launch(tmp_path, line, 2), ""
        for text in again.stdout:
            said += text
            if "waiting for it" in text:
                break
        os.kill(first, signal.SIGCONT)
        code, out = finish(again)
        assert code == 0 and f"is held by process {first} on " in said, said + out  # so that one can end it
        assert_same_bits(tmp_path, straight)
        wait_until(lambda: not is_alive(first) and not is_alive(second))
        (run,) = (tmp_path / "results/runs").iterdir()
        with hold(run, wait=False, say=print):
            pass
    finally:
        for pid in filter(is_alive, (first, second)):
            os.kill(pid, signal.SIGKILL)
        torchrun.communicate()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    code, out = finish(launch(tmp_path, LINE.replace("batch=4", "batch=3"), 2))
    assert code != 0 and "batch=3: expected a multiple of 2, the processes that share it" in out
