"""What may happen to a training of a week: each fault for real, and nothing lost or believed that is torn."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint
from nsr_cli.engine.trainer import train
from nsr_cli.layers.sparse_conv import SparseConv2d

STEPS = 500
FORKS = multiprocessing.get_context("forkserver")  # torch is imported once, not for every process that is killed
FORKS.set_forkserver_preload(["nsr_cli.engine.trainer", "nsr_cli.layers.sparse_conv", "torch._dynamo"])


def batch_at(step: int) -> Batch:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(step))
    return Batch(x, 1 - x, ["a.png", "b.png"])


def training(folder: Path, precision: str, checkpoint_minutes: float = 0, begun=None) -> dict:
    """A checkpoint after every step: most of the time one is being written. ``begun`` is set after the first."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    conv = SparseConv2d(1, 4, 3, padding=1, gate="gumbel")
    network = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    folder.mkdir(exist_ok=True)
    drops = {"learning_rate": 1e-3, "lr_drops": [0.5], "lr_factor": 0.2}
    settings = {
        "steps": STEPS,
        "patch": 8,
        "seed": 1,
        "precision": precision,
        "checkpoint_minutes": checkpoint_minutes,
        **drops,
    }
    asked = []

    def batches(step: int) -> Batch:
        asked.append(step)
        if begun and len(asked) == 3:  # one ahead of the step that is computed
            begun.set()
        return batch_at(step)

    return train(network, batches, folder, "abc", **settings, say=lambda text: None)


@pytest.mark.parametrize(("precision", "kills"), [("fp32", 25), ("fp16", 5)])
def test_killed_at_random_instants_the_weights_are_the_same_bits(tmp_path, precision, kills):
    straight = training(tmp_path / "straight", precision, checkpoint_minutes=1e9)
    folder, instants, killed, reached = tmp_path / "killed", random.Random(precision), 0, set()
    while killed < kills:
        begun = FORKS.Event()
        process = FORKS.Process(target=training, args=(folder, precision, 0, begun))
        process.start()
        assert begun.wait(timeout=60)
        time.sleep(instants.uniform(0, 0.04))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if (folder / "weights.pt").exists():  # quicker than the kills: it is whole, and there is nothing left to kill
            break
        killed += 1
        saved = checkpoint.checkpoints(folder)
        reached |= {path.name for path in saved}
        for path in saved:
            checkpoint.load(path)  # what has its name is whole
    assert killed >= 4 and len(reached) >= 4
    resumed = training(folder, precision, checkpoint_minutes=1e9)
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
