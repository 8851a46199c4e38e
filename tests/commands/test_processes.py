"""Processes that are killed, signalled, out of disk, or two of one run: nothing is lost, nothing is torn."""

import random
import signal
import subprocess
import time

import pytest
import torch
from kept import records, weights
from terminal import finish, start, wait_until


def test_killed_at_random_instants_and_repeated_the_weights_are_the_same_bits(nsr, tmp_path, tiny):
    line = f"ablate sparsity=gumbel {tiny} steps=400 checkpoint_minutes=0.002 device=cpu"
    straight = tmp_path / "straight"
    straight.mkdir()
    code, out = finish(start(straight, line))
    assert code == 0, out

    killed, dice, said = tmp_path / "killed", random.Random(0), ""
    killed.mkdir()
    for _ in range(3):
        process = start(killed, line)
        for text in process.stdout:
            said += text
            if text.startswith("step"):
                break
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    code, out = finish(start(killed, line))
    said += out
    assert code == 0, said
    assert said.count("resuming after step") >= 2  # the first kill may come before the first checkpoint
    expected, found = weights(straight), weights(killed)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert not list(killed.rglob("*.tmp")), "temporary files of killed processes are cleaned up"


def test_two_processes_on_one_run(tmp_path, tiny):
    line = f"ablate {tiny} steps=400 device=cpu"
    first = start(tmp_path, line)
    for text in first.stdout:
        if text.startswith("training"):
            break
    first.send_signal(signal.SIGSTOP)  # as long as the others take to notice
    leaving, second = start(tmp_path, f"{line} wait=false"), start(tmp_path, line)
    code, out = finish(leaving)
    assert code == 75
    assert f"is held by process {first.pid} on " in out and "not waiting" in out
    for text in second.stdout:
        if "waiting for it" in text:
            break
    assert f"is held by process {first.pid} on " in text
    first.send_signal(signal.SIGCONT)
    (first_code, _), (second_code, out) = finish(first), finish(second)
    assert first_code == second_code == 0, out
    assert "training" not in out and "dB" in out  # the first one's result is shown
    assert len(records(tmp_path)) == 1 and len(list((tmp_path / "results/runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "ablate {tiny} steps=100000"),
        (signal.SIGHUP, 129, "ablate {tiny} steps=100000"),
        (signal.SIGTERM, 143, "ablate -m {tiny} steps=100000 seed=0,1"),
    ],
)
def test_a_signal_saves_the_step_and_ends_the_command(tmp_path, tiny, number, code, line):
    """Also a sweep's: the next cell does not begin."""
    process = start(tmp_path, line.format(tiny=tiny), NSR_PROTOCOL="smoke", OMP_NUM_THREADS="1")
    for text in process.stdout:
        if text.startswith("step"):
            break
    process.send_signal(number)
    ended, out = finish(process)
    assert ended == code, out
    assert f"stopped by {number.name} after step " in out and "Traceback" not in out
    assert len(list(tmp_path.rglob("checkpoint-*.pt"))) == 1 and not records(tmp_path)
    assert out.count("training ") == 0 and "failed" not in out, out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_a_table_stops_its_trainings_which_save(tmp_path, number, code):
    process = start(tmp_path, "table 1 run=true", NSR_PROTOCOL="smoke", OMP_NUM_THREADS="1")
    wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("results/runs/*/stats.jsonl")))
    process.send_signal(number)
    ended, out = finish(process)
    assert ended == code and "Traceback" not in out, out
    said = out + "".join(log.read_text() for log in tmp_path.glob("results/sweeps/*/logs/*.log"))  # side by side: there
    assert " after step " in said and "which is saved" in said and "Traceback" not in said
    assert list(tmp_path.rglob("checkpoint-*.pt")) and not records(tmp_path)


def test_a_full_disk_is_one_line_and_nothing_is_torn(tmp_path, tiny):
    disk, line = tmp_path / "disk", f"ablate {tiny} units=64 steps=50 checkpoint_minutes=0 device=cpu"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs to mount a small tmpfs")
    try:
        code, out = finish(start(disk, line))
        assert code == 1, out
        assert "nsr ablate: No space left on device" in out and "Traceback" not in out
        assert not list(disk.rglob("*.tmp")) and not list(disk.rglob("*.pt"))
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        code, out = finish(start(disk, line))
        assert code == 0, out
    finally:
        subprocess.run(["umount", disk], check=True)
