"""The samples of a batch on several threads."""

import subprocess
import sys
import threading

import pytest
import torch

from nsr_cli.layers.per_sample import After
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.threads import for_each_sample

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_sample_is_taken_once_by_as_many_threads_as_torch_has(threads):
    taken, by, waits = [], set(), threading.Barrier(threads)

    def run(i: int) -> None:
        taken.append(i)
        if threading.get_ident() not in by:
            by.add(threading.get_ident())
            waits.wait(timeout=30)  # until each thread has begun
        assert not torch.is_grad_enabled() and torch.get_num_threads() == 1

    with torch.no_grad():
        for_each_sample(run, 7, CPU)
    assert sorted(taken) == list(range(7)) and len(by) == threads
    assert torch.get_num_threads() == threads


def values_and_gradients() -> list[torch.Tensor]:
    torch.manual_seed(0)
    layer = SparseConv2d(4, 6, 3, padding=1, way="one by one")
    x, added = torch.randn(5, 4, 9, 8, requires_grad=True), torch.randn(5, 6, 9, 8)
    hidden, average = layer(x, after=After(relu=True, pools=True))
    out = layer(x, after=After(residual=added))
    total = (hidden**2).sum() + (average**3).sum() + (out**2).sum()
    return [hidden, average, out, *torch.autograd.grad(total, [x, *layer.parameters()])]


def test_the_number_of_threads_changes_nothing(threads):
    torch.set_num_threads(1)
    alone = values_and_gradients()
    torch.set_num_threads(threads)
    for ours, theirs in zip(values_and_gradients(), alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_inference_mode_and_second_derivatives(threads):
    layer = SparseConv2d(4, 6, 3, way="one by one", dtype=torch.float64)
    x = torch.randn(5, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), layer(x.detach().clone()))
    assert torch.autograd.gradgradcheck(layer, (x[:2].detach().requires_grad_(),), atol=1e-4, fast_mode=True)


def test_the_error_of_a_sample_is_raised(threads):
    def run(i: int) -> None:
        if i == 4:
            raise ValueError("sample 4")

    with torch.no_grad(), pytest.raises(ValueError, match="sample 4"):
        for_each_sample(run, 6, CPU)


FORK = """
import multiprocessing, sys, torch
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.threads import for_each_sample

def convolve():
    with torch.no_grad():
        sys.exit(SparseConv2d(4, 6, 3, way="one by one")(torch.ones(3, 4, 5, 5)).shape[0])

torch.set_num_threads(2)
with torch.no_grad():
    for_each_sample(lambda i: None, 4, torch.device("cpu"))
process = multiprocessing.get_context("fork").Process(target=convolve)
process.start()
process.join(timeout=60)
sys.exit(process.exitcode)
"""


def test_a_forked_process_has_threads_of_its_own():
    assert subprocess.run([sys.executable, "-c", FORK], timeout=120).returncode == 3
