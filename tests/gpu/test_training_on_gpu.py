"""A short training of each task on a GPU: it learns, and it ends in the same bits when it was interrupted."""

import json

import pytest
import torch

DYING = """
import pathlib
from nsr_cli.models.wdsr import WDSR

class Dying(WDSR):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 25 and pathlib.Path("die").exists():
            pathlib.Path("die").unlink()
            raise KeyboardInterrupt
        return super().forward(x)
"""
NETWORK = "blocks=1 units=8 width=2 batch=4 model.network._target_=my_dying.Dying"
TRAINING = f"train protocol=smoke sparsity=softmax cardinality=4 {NETWORK}"


@pytest.fixture
def deterministic():
    yield "deterministic=true"
    torch.use_deterministic_algorithms(False)


def weights(folder) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("runs/*/weights.pt")
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


@pytest.mark.parametrize("task", ["sr", "sr precision=bf16", "denoise", "dejpeg"])
def test_an_interrupted_training_ends_in_the_same_bits(nsr, write, tmp_path, device, deterministic, task):
    write("my_dying.py", DYING)
    line = f"{TRAINING} task={task} device={device} steps=50 checkpoint_minutes=0 {deterministic}"
    straight = nsr(f"{line} results=straight")
    assert straight.code == 0, straight.err
    write("die", "")
    died = nsr(f"{line} results=resumed")
    assert died.code != 0 and not (tmp_path / "die").exists()
    resumed = nsr(f"{line} results=resumed")
    assert resumed.code == 0 and "resuming after step 25 of 50" in resumed.out, resumed.err
    expected, found = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert {name for name in expected if not torch.equal(expected[name], found[name])} == set()


@pytest.mark.parametrize("options", ["", "precision=bf16", "compile=true"])
def test_a_training_of_measured_ways_learns(nsr, write, tmp_path, device, options):
    """Without deterministic=true; on a GPU patches are cut from images in its memory."""
    if options == "compile=true" and device.type == "cpu":
        pytest.skip("takes a minute there")
    write("my_dying.py", DYING)
    result = nsr(f"{TRAINING} device={device} steps=200 {options}")
    assert result.code == 0, result.err
    (path,) = tmp_path.glob("results/runs/*/stats.jsonl")
    losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]
