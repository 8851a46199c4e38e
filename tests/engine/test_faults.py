"""What may happen to a training of a week: each fault for real, and nothing lost or believed that is torn."""

import errno
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from terminal import wait_until
from tiny import FORKS

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint

TINY = "sparsity=softmax blocks=1 units=4 width=1 batch=2 threads=1 device=cpu"
STEPS, KILLS = 125, 25


def training(folder: Path, precision: str, minutes: float = 0, begun=None, watch=None) -> dict:
    """A checkpoint after every step: most of the time one is being written.

    ``watch`` is called with every step whose batch is asked for. ``begun`` is set after the first checkpoint; who gives
    it kills the training, which waits for that rather than complete its share of the steps.
    """
    torch.set_num_threads(1)
    model = tiny.network()
    model.register_buffer("ballast", torch.zeros(2**19))  # a few KB are written in one go, which no signal tears
    asked = []

    def batches(step: int) -> Batch:
        asked.append(step)
        if begun and len(asked) == 3:  # one ahead of the step that is computed
            begun.set()
        if begun and len(asked) == STEPS // KILLS:
            time.sleep(60)
        if watch:
            watch(step)
        return tiny.batch_at(step)

    return tiny.run(folder, batches, model=model, steps=STEPS, precision=precision, minutes=minutes, every=50)[0]


@pytest.fixture
def disk(tmp_path):
    """A folder that is a file system of its own, and a function that mounts it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs to mount a small tmpfs")
    yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(("precision", "kills"), [("fp32", KILLS), ("bf16", 3), ("fp16", 3)])
def test_killed_at_random_instants_the_weights_are_the_same_bits(tmp_path, precision, kills):
    straight = training(tmp_path / "straight", precision, minutes=1e9)
    folder, instants, reached = tmp_path / "killed", random.Random(precision), set()
    for _ in range(kills):
        begun = FORKS.Event()
        process = FORKS.Process(target=training, args=(folder, precision, 0, begun))
        process.start()
        assert begun.wait(timeout=60)
        time.sleep(instants.uniform(0, 0.04))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved = checkpoint.checkpoints(folder)
        reached |= {path.name for path in saved}
        for path in saved:
            checkpoint.load(path)  # what has its name is whole
    assert len(reached) >= kills  # each has gone on from where the one before was killed
    resumed = training(folder, precision, minutes=1e9)
    assert resumed["step"] == STEPS
    for name, tensor in straight["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name


def test_a_flipped_bit_is_noticed_or_harmless(tmp_path):
    state = {"model": {"weight": torch.rand(50)}, "step": 3}
    path = tmp_path / "checkpoint-000000003.pt"
    checkpoint.save(path, state)
    whole, places, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        path.write_bytes(flipped)
        try:
            found = checkpoint.load(path)
        except Exception:
            noticed += 1
        else:  # a time stamp of the archive, for one
            assert found["step"] == 3 and torch.equal(found["model"]["weight"], state["model"]["weight"])
    assert noticed > 150


@pytest.mark.parametrize("length", [0, 1, 100, 1000, -1])
def test_a_truncated_checkpoint_is_noticed(tmp_path, length):
    path = checkpoint.save_step(tmp_path, 1, {"model": {"weight": torch.rand(500)}})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Exception):  # noqa: B017  (of many kinds)
        checkpoint.load(path)


def train_in_a_terminal(name: str, folder: Path) -> None:
    os.setsid()
    terminal = os.open(name, os.O_RDWR)  # from now on that of this session
    for stream in (0, 1, 2):
        os.dup2(terminal, stream)
    tiny.run(folder, say=print, steps=10**6, minutes=1e9, every=1, bar=True)


def test_a_closed_terminal_loses_no_step(tmp_path):
    ours, terminal = os.openpty()
    process = FORKS.Process(target=train_in_a_terminal, args=(os.ttyname(terminal), tmp_path))
    process.start()
    stats = tmp_path / "stats.jsonl"
    wait_until(lambda: (stats.exists() and stats.read_text().count("\n") > 20) or not process.is_alive())
    os.close(terminal)
    os.close(ours)
    process.join(timeout=60)
    assert process.exitcode == 128 + signal.SIGHUP
    (saved,) = checkpoint.checkpoints(tmp_path)  # by the signal alone
    step = checkpoint.load(saved)["step"]
    assert step >= 20 and len(stats.read_text().splitlines()) == step


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


class Stopped(Exception):
    pass


def test_a_disk_that_fills_up_keeps_the_checkpoints_that_are_there(tmp_path, disk):
    folder, remount = disk
    straight = training(tmp_path / "straight", "fp32", minutes=1e9)

    def stop(step: int) -> None:
        if step == 50:
            raise Stopped

    with pytest.raises(Stopped):
        training(folder, "fp32", watch=stop)
    saved = checkpoint.checkpoints(folder)
    assert len(saved) == checkpoint.MOST_KEPT
    before = {path: path.read_bytes() for path in saved}
    used = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    remount(f"size={used + saved[-1].stat().st_size // 2}")  # no room for another one
    with pytest.raises(OSError) as full:
        training(folder, "fp32")
    assert full.value.errno == errno.ENOSPC and Path(full.value.filename).parent == folder
    assert {path: path.read_bytes() for path in checkpoint.checkpoints(folder)} == before
    assert not list(folder.glob(".*.tmp"))
    remount("size=20m")
    resumed = training(folder, "fp32", minutes=1e9)
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in straight["model"].items())


def test_on_a_read_only_disk_what_writes_is_one_line_and_what_reads_works(nsr, tmp_path, disk, monkeypatch):
    folder, remount = disk
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    results = folder / "results"
    run = f"{TINY} steps=6 results={results}"
    assert nsr(f"ablate {run}")[0] == 0
    before = contents(folder)
    remount("ro")
    compare = f"figure compare results={results} \"runs=['{TINY} steps=6']\""
    refused = f"results={results}: cannot be written to (Read-only file system: {results})"
    for line, code, problem in (
        (f"ablate {run}", 0, None),
        (f"ablate {run} dry_run=true", 0, None),
        (f"ablate {run} seed=1", 2, refused),
        (f"ablate {run} rescore=true", 2, refused),
        (f"eval model=wdsr {run}", 0, None),
        (f"eval model=wdsr {run} save_images=true", 2, refused),
        (f"eval model=bicubic results={results}", 2, refused),
        (f"table 1 results={results} save=false", 0, None),
        (
            f"table 1 results={results}",
            1,
            f"{results}/tables/smoke/table1.md cannot be written (Read-only file system); ",
        ),
        (compare, 2, refused),
    ):
        ended, out, err = nsr(line)
        assert ended == code, (line, out, err)
        if code == 0:
            assert err == "" and ("dB" in out or "| " in out or "nothing was made" in out), line
        else:
            assert err.startswith(f"nsr {line.split()[0]}: {problem}") and err.count("\n") == 1, err
        assert line != f"table 1 results={results}" or "| softmax" in out.lower()  # shown, although it is not saved
    assert contents(folder) == before and not list((tmp_path / "here").iterdir())


def test_an_image_of_the_training_set_that_has_changed_since_the_checkpoint_is_noticed(nsr, tmp_path, monkeypatch):
    images, pixels = tmp_path / "data/T91", np.random.default_rng(0)
    images.mkdir(parents=True)
    for number in range(91):
        cv2.imwrite(str(images / f"{number}.bmp"), pixels.integers(0, 256, (64, 64, 3), np.uint8))
    line = f"train task=denoise train=t91 data={tmp_path / 'data'} {TINY} steps=30 checkpoint_minutes=0"

    def interrupted(*args: object) -> None:
        saves(*args)
        signal.raise_signal(signal.SIGTERM)

    saves = checkpoint.save_step
    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="143"):
        patched.setattr(checkpoint, "save_step", interrupted)
        nsr(line)
    saved = list(tmp_path.glob("results/runs/*/checkpoint-*.pt"))
    assert saved
    image = images / "7.bmp"
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # the last pixel; the size is the same
    before = contents(saved[0].parent)
    code, _, err = nsr(line)
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("nsr train: the training images have changed since the checkpoint in ")
    assert err.endswith("; delete the checkpoints to train from the start\n") and saved[0].parent.name in err
    assert contents(saved[0].parent).items() >= {p: c for p, c in before.items() if p.suffix == ".pt"}.items()
    image.write_bytes(whole)
    code, out, err = nsr(line)
    assert code == 0 and "resuming after step" in out, err
