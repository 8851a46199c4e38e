"""The training loop: what it minimises, what it writes, and that a resumed run is the uninterrupted one."""

import contextlib
import copy
import errno
import itertools
import os
import signal

import pytest
import torch
from tiny import Killed, batch_at, killed_at, lines_of, network, run
from torch import nn

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint, trainer
from nsr_cli.engine.saver import Diverged
from nsr_cli.engine.trainer import step_seed
from nsr_cli.errors import Failed
from nsr_cli.words import clock


def untimed(line: dict) -> dict:
    """A line of stats.jsonl but for what differs from run to run."""
    return {name: value for name, value in line.items() if name not in ("steps_per_second", "waiting")}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resumed_runs_end_in_the_same_bits(tmp_path, precision):
    straight, _ = run(tmp_path / "straight", precision=precision)
    for stops in ([1], [6], [11], [2, 5, 6, 9]):
        folder = tmp_path / "-".join(map(str, stops))
        for stop in stops:
            with pytest.raises(Killed):
                run(folder, killed_at(stop), precision=precision)
        said = []
        resumed, _ = run(folder, say=said.append, precision=precision)
        assert any("resuming after step" in line for line in said)
        for name, tensor in straight["model"].items():
            assert torch.equal(tensor, resumed["model"][name]), (stops, name)
        assert list(map(untimed, lines_of(folder))) == list(map(untimed, lines_of(tmp_path / "straight")))


@pytest.mark.parametrize(
    "layouts", [(torch.channels_last, torch.contiguous_format), (torch.contiguous_format, torch.channels_last)]
)
def test_a_checkpoint_of_another_memory_layout_is_the_same(tmp_path, monkeypatch, layouts):
    """As when a training moves between kinds of devices: the optimizer's numbers must stay with their parameters."""
    before, after = layouts
    straight, _ = run(tmp_path / "straight")
    monkeypatch.setattr(trainer, "best_layout", lambda network, patch: before)
    with pytest.raises(Killed):
        run(tmp_path / "moved", killed_at(6))
    monkeypatch.setattr(trainer, "best_layout", lambda network, patch: after)
    moved, _ = run(tmp_path / "moved")
    for name, tensor in straight["model"].items():
        torch.testing.assert_close(moved["model"][name], tensor, rtol=1e-4, atol=1e-6)


def test_a_parameter_that_is_not_used_is_named(tmp_path):
    model = network()
    model[0].spare = nn.Linear(2, 2)
    with pytest.raises(Failed, match=r"^the loss does not depend on 0.spare.weight, 0.spare.bias; freeze them"):
        run(tmp_path, model=model)


def test_a_constant_that_is_not_finite_is_refused_before_the_first_step(tmp_path):
    """As the mask of an attention. Once all steps were done, and neither checkpoints nor weights could be written."""
    model = network()
    model.register_buffer("mask", torch.tensor([0, -torch.inf]))
    with pytest.raises(Failed, match=r"^mask: not finite before the first step; expected finite numbers: a const"):
        run(tmp_path, model=model)


def test_a_network_that_convolves_in_three_dimensions_is_trained(tmp_path):
    convolution = nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1))
    model = nn.Sequential(nn.Unflatten(1, (1, 1)), convolution, nn.Flatten(1, 2), nn.Conv2d(1, 1, 1))
    before = convolution.weight.detach().clone()
    run(tmp_path, model=model)
    assert not torch.equal(convolution.weight, before)


def test_validation_comes_when_it_is_due(tmp_path):
    run(tmp_path, validate=lambda model: {"psnr": 30.0}, validate_every=4, every=5)
    lines = lines_of(tmp_path)
    assert {line["step"]: line.get("psnr") for line in lines} == {4: 30.0, 5: None, 8: 30.0, 10: None, 12: 30.0}


def test_damaged_stats_do_not_stop_a_resume(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(11))
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b'\xff\n{"stop": 1}\n[]\n' + path.read_bytes())
    run(tmp_path)
    assert [line["step"] for line in lines_of(tmp_path)] == [5, 10, 12]


def test_it_learns(tmp_path):
    run(tmp_path, steps=200, drops=(180,), minutes=1e9)
    lines = lines_of(tmp_path)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


def test_the_learning_rate_drops_where_the_paper_says(tmp_path):
    """x0.2 at epochs 20 and 25 of 30, here at steps 20 and 25 of 30."""
    run(tmp_path, steps=30, drops=(20, 25), factor=0.2, every=1, minutes=1e9)
    rates = [line["learning_rate"] for line in lines_of(tmp_path)]
    assert rates[:20] == [1e-2] * 20
    assert rates[20:25] == pytest.approx([2e-3] * 5) and rates[25:] == pytest.approx([4e-4] * 5)


def test_what_is_left_behind(tmp_path):
    state, model = run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.jsonl", "weights.pt"]
    saved = checkpoint.load(tmp_path / "weights.pt")
    assert saved["signature"] == "abc" and saved["step"] == 12 and saved["seconds"] > 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(saved["model"][name], tensor)


def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(8))
    saved = checkpoint.checkpoints(tmp_path)
    assert [path.name for path in saved] == ["checkpoint-000000007.pt", "checkpoint-000000008.pt"]
    saved[-1].write_bytes(saved[-1].read_bytes()[:100])
    said = []
    resumed, _ = run(tmp_path, say=said.append)
    assert "checkpoint-000000008.pt cannot be read" in said[0] and "falling back" in said[0]
    assert said[1] == "resuming after step 7 of 12"
    straight, _ = run(tmp_path / "straight")
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in straight["model"].items())


def test_stats_hold_every_interval_once_after_a_resume(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(9), minutes=1e9)  # lines of step 5, then nothing to resume from
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"step": 7, "lo')  # torn by a crash
    run(tmp_path, minutes=1e9)
    assert [line["step"] for line in lines_of(tmp_path)] == [5, 10, 12]


def test_a_line_of_stats_says_how_it_goes(tmp_path):
    scores = iter([20.0, 30.0, 25.0])
    with pytest.raises(Killed):
        run(tmp_path, killed_at(11), validate=lambda model: {"psnr": next(scores)}, validate_every=5, every=5)
    lines = lines_of(tmp_path)
    assert [line.get("psnr") for line in lines] == [20.0, 30.0]
    assert all(line["gradient_norm"] > 0 and 0 <= line["waiting"] <= 1 for line in lines)
    (layer,) = lines[0]["gates"].values()
    assert len(layer["chosen"]) == 4 and sum(layer["chosen"]) == pytest.approx(1)
    _, state = checkpoint.load_newest(tmp_path, print)
    assert state["best"] == {"psnr": 30.0, "step": 10}


def test_validation_does_not_change_what_is_trained(tmp_path):
    straight, _ = run(tmp_path / "a")
    watched, _ = run(
        tmp_path / "b",
        validate=lambda model: {"psnr": float(copy.deepcopy(model).eval()(torch.rand(1, 1, 8, 8)).mean().detach())},
        validate_every=1,
        every=1,
    )
    assert all(torch.equal(tensor, watched["model"][name]) for name, tensor in straight["model"].items())


def test_bytes_are_255ths(tmp_path):
    def as_bytes(step: int) -> Batch:
        batch = batch_at(step)
        return Batch((batch.degraded * 255).byte(), (batch.truth * 255).byte(), batch.names)

    def as_floats(step: int) -> Batch:
        batch = as_bytes(step)
        return Batch(batch.degraded / 255, batch.truth / 255, batch.names)

    a, b = (run(tmp_path / batches.__name__, batches)[0]["model"] for batches in (as_bytes, as_floats))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("number", "goes_on"), [(errno.EIO, True), (errno.EPIPE, False), (errno.ENOSPC, False)])
def test_a_terminal_that_is_gone_stops_no_training_but_a_closed_pipe_does(tmp_path, number, goes_on):
    def say(text: str) -> None:
        raise OSError(number, "nobody listens")

    with contextlib.nullcontext() if goes_on else pytest.raises(OSError, match="nobody listens"):
        run(tmp_path, say=say)
    assert (tmp_path / "weights.pt").exists() == goes_on


def test_a_signal_during_the_last_step_leaves_a_finished_run(tmp_path):
    def last(model: nn.Module) -> dict:  # looked at after the last step alone
        signal.raise_signal(signal.SIGTERM)
        return {"psnr": 0.0}

    with pytest.raises(SystemExit, match="143"):
        run(tmp_path, validate=last, validate_every=100)
    assert checkpoint.load(tmp_path / "weights.pt")["step"] == 12


def test_a_loss_that_is_no_number_stops_and_names_step_files_and_checkpoint(tmp_path):
    def batches(step: int) -> Batch:
        batch = batch_at(step)
        return Batch(batch.degraded, batch.truth * float("nan"), batch.names) if step == 7 else batch

    with pytest.raises(Diverged) as stopped:
        run(tmp_path, batches)
    text = str(stopped.value)
    assert text.startswith("the loss is nan at step 8, on patches of 7a.png, 7b.png; the last good checkpoint is ")
    assert text.endswith("checkpoint-000000007.pt")
    with pytest.raises(Diverged, match="there is no checkpoint before it"):
        run(tmp_path / "none", batches, minutes=1e9)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(4))
    with pytest.raises(Failed, match="holds a checkpoint of another run: abc, not xyz"):
        run(tmp_path, signature="xyz")


def test_a_checkpoint_made_on_other_images_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(4), data="123")
    with pytest.raises(Failed, match="the training images have changed since the checkpoint in "):
        run(tmp_path, data="124")
    run(tmp_path, data="123")


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(4))
    path = checkpoint.checkpoints(tmp_path)[-1]
    state = checkpoint.load(path)
    del state["best"]
    checkpoint.save(path, {**state, "ema": 1})
    with pytest.raises(Failed, match=r"of another version of nsr \(it differs in: best, ema\); delete"):
        run(tmp_path)


@pytest.mark.parametrize("state", [[1], torch.ones(2), {1: 2, "step": 3}])
def test_a_whole_file_that_is_no_checkpoint_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "checkpoint-000000004.pt")
    with pytest.raises(Failed, match=r"of another version of nsr \(it differs in: .*; delete the checkpoints"):
        run(tmp_path)


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "checkpoint-000000004.pt")
    with pytest.raises(Failed, match="no checkpoint in .* can be read; delete them"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda weights: weights.update({"2.bias": torch.ones(3)}), r"its 2.bias is \[3\], the network's is \[1\]"),
        (lambda weights: weights.pop("2.bias"), r"its 2.bias is missing, the network's is \[1\]"),
        (lambda weights: weights.update(more=torch.ones(2)), r"its more is \[2\], the network's is missing"),
        (lambda weights: weights.update({"2.bias": 1.0}), r"its 2.bias is \[\], the network's is \[1\]"),
    ],
)
def test_weights_that_do_not_fit_the_network_are_one_line(tmp_path, change, problem):
    with pytest.raises(Killed):
        run(tmp_path, killed_at(4))
    for path in checkpoint.checkpoints(tmp_path):
        state = checkpoint.load(path)
        change(state["model"])
        checkpoint.save(path, state)
    expected = rf"^{path} does not fit the network: {problem}; delete it to train again$"
    with pytest.raises(Failed, match=expected):
        run(tmp_path)
    with pytest.raises(Failed, match=expected):
        checkpoint.load_finished(path, "abc", network())


@pytest.mark.parametrize("state", [{}, [1, 2], {"model": {}, "signature": "abc"}])
def test_a_whole_file_that_is_no_final_state_is_one_line(tmp_path, state):
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(Failed, match=rf"^{tmp_path}/weights.pt is no file of a finished training, which holds model, "):
        checkpoint.load_finished(tmp_path / "weights.pt", "abc", network())


def test_final_weights_are_loaded_or_refused(tmp_path):
    _, trained = run(tmp_path)
    path, other = tmp_path / "weights.pt", network()
    assert checkpoint.load_finished(path, "abc", other)["step"] == 12
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), trained.parameters(), strict=True))
    with pytest.raises(Failed, match=rf"^{path} holds another run's weights; delete it and repeat"):
        checkpoint.load_finished(path, "xyz", other)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Failed, match=rf"^{path} is damaged \(BadZipFile\); delete it and repeat"):
        checkpoint.load_finished(path, "abc", other)


def test_checkpoints_are_read_as_data(tmp_path):
    torch.save({"model": print}, tmp_path / "checkpoint-000000001.pt")  # a pickled function
    with pytest.raises(Failed, match="^no checkpoint in .* can be read; delete them to train from the start$"):
        checkpoint.load_newest(tmp_path, lambda text: None)


def test_seeds_and_clocks():
    seeds = {step_seed(seed, step) for seed, step in itertools.product(range(20), range(2000))}
    assert len(seeds) == 20 * 2000 and max(seeds) < 2**63
    assert clock(59.6) == "1:00" and clock(3661) == "1:01:01"
