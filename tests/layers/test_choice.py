"""The choice between ways of convolving follows what a stopwatch says; here the test sets its hand."""

import json

import pytest
import torch

from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.sparse_conv import SparseConv2d

SHAPE = (8, 8, 3, 3), (1, 1), (1, 1), (1, 1)


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """A machine on which choices are measured, and each way takes as long as ``seconds`` says; the ways that ran."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "MEASURED", ("cpu",))
    monkeypatch.setattr(choice, "chosen", {})
    now, ways = [0.0], []

    def slow(way: str, real):
        def run(*arguments):
            ways.append(way)
            now[0] += seconds[way]
            return real(*arguments)

        return run

    for way, real in per_sample.EVERYWHERE.items():
        monkeypatch.setitem(per_sample.WAYS, way, slow(way, real))
    timed = choice.time_in_turns
    monkeypatch.setattr(choice, "time_in_turns", lambda *of, **watch: timed(*of, **watch | {"clock": lambda: now[0]}))
    seconds.update({"as groups": 3, "one by one": 2, "as products": 1})
    return ways


seconds: dict[str, float] = {}


@pytest.mark.parametrize("fastest", per_sample.EVERYWHERE)
def test_the_layer_takes_what_was_measured_to_be_the_fastest(ran, fastest):
    seconds[fastest] = 0.5
    layer, x = SparseConv2d(8, 8, 3, padding=1), torch.rand(2, 8, 6, 6)
    out = layer(x)
    assert set(ran) == set(per_sample.EVERYWHERE) and ran[-1] == fastest
    ran.clear()
    torch.testing.assert_close(layer(x), out)
    assert ran == [fastest]  # measured once
    layer.way = "one by one"
    layer(x)
    assert ran[-1] == "one by one"


def test_another_process_reads_what_one_has_measured(ran, monkeypatch, tmp_path):
    x = torch.rand(2, 8, 6, 6)
    assert choice.fastest(x, *SHAPE) == "as products"
    (file,) = (tmp_path / "nsr/ways").iterdir()
    assert json.loads(file.read_text())["seconds"] == {"as groups": 3, "one by one": 2, "as products": 1}
    monkeypatch.setattr(choice, "chosen", {})
    ran.clear()
    assert choice.fastest(x, *SHAPE) == "as products" and ran == []
    monkeypatch.setattr(choice, "chosen", {})
    file.write_text(file.read_text()[:-40])  # damaged: measured anew
    assert choice.fastest(x, *SHAPE) == "as products" and ran != []


def test_each_class_of_shapes_is_measured_and_passes_apart(ran, tmp_path):
    for size in (6, 7, 8):  # up to 64 pixels
        choice.fastest(torch.rand(2, 8, size, size), *SHAPE)
    assert len(choice.chosen) == 1
    with torch.no_grad():
        choice.fastest(torch.rand(2, 8, 6, 6), *SHAPE)
    choice.fastest(torch.rand(2, 8, 6, 6).to(memory_format=torch.channels_last), *SHAPE)
    choice.fastest(torch.rand(2, 8, 6, 6).bfloat16(), *SHAPE)
    choice.fastest(torch.rand(3, 8, 6, 6), *SHAPE)
    assert len(choice.chosen) == len(list((tmp_path / "nsr/ways").iterdir())) == 5


def test_a_way_that_fails_is_not_taken(ran, monkeypatch, tmp_path):
    def fails(*arguments):
        raise torch.OutOfMemoryError("no memory for columns")

    monkeypatch.setitem(per_sample.WAYS, "as products", fails)
    assert choice.fastest(torch.rand(2, 8, 6, 6), *SHAPE) == "one by one"
    (file,) = (tmp_path / "nsr/ways").iterdir()
    assert json.loads(file.read_text())["failed"] == {"as products": "OutOfMemoryError: no memory for columns"}


def test_a_folder_that_cannot_be_written_to_is_no_failure(ran, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choice.fastest(torch.rand(2, 8, 6, 6), *SHAPE) == "as products"


def test_nothing_is_measured_under_a_compiler_a_transform_or_with_deterministic_algorithms(ran):
    layer, x = SparseConv2d(8, 8, 3, padding=1), torch.rand(2, 8, 6, 6)
    with torch.no_grad():
        torch.vmap(layer)(x[None])
        torch.export.export(layer, (x,))
        torch.use_deterministic_algorithms(True)
        try:
            layer(x)
        finally:
            torch.use_deterministic_algorithms(False)
    assert set(ran) == {"as groups"} and choice.chosen == {}


def test_measuring_draws_no_random_numbers_and_leaves_no_gradients(ran):
    layer, x = SparseConv2d(8, 8, 3, padding=1), torch.rand(2, 8, 6, 6)
    before = torch.get_rng_state()
    layer(x)
    assert torch.equal(before, torch.get_rng_state()) and all(p.grad is None for p in layer.parameters())


def test_nothing_is_measured_on_a_cpu():
    assert "cpu" not in choice.MEASURED
    assert choice.fastest(torch.rand(2, 8, 6, 6), *SHAPE) == "as groups" and choice.chosen == {}


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "way"),
    [
        (16, 24, 32, per_sample.AS_GROUPS),
        (16, 21, 32, per_sample.ONE_BY_ONE),  # k = 3 of Table 2 at short: half the time
        (21, 16, 32, per_sample.ONE_BY_ONE),
        (16, 21, 24, per_sample.AS_GROUPS),
        (16, 24, 64, per_sample.ONE_BY_ONE),
    ],
)
def test_small_samples_of_a_cpu_are_groups_of_one_convolution_unless_channels_are_uneven(
    monkeypatch, inputs, outputs, side, way
):
    monkeypatch.setattr(choice, "has_avx512", lambda: True)
    x = torch.empty(16, inputs, side, side)
    assert choice.fastest(x, (outputs, inputs, 3, 3), (1, 1), (1, 1), (1, 1)) == way


@pytest.mark.parametrize(
    ("capability", "channels", "expected"),
    [
        ("AVX512", 64, "one by one"),
        ("AVX2", 64, "as groups"),  # once it was one by one, and a training step took 1.4 times as long
        ("AVX2", 42, "one by one"),
        ("AVX512", 8, "as groups"),
    ],
)
def test_without_measurement_large_samples_go_one_by_one_where_that_pays(monkeypatch, capability, channels, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(choice, "has_avx512", choice.has_avx512.__wrapped__)
    x = torch.rand(2, channels, 48, 48)
    assert choice.fastest(x, (channels, channels, 3, 3), *SHAPE[1:]) == expected
