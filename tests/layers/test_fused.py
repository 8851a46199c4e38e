"""Our kernels in Triton on a machine without a GPU: interpreted, they are the definition; and they can be compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

try:
    import triton
except ImportError:
    triton = None
needs_triton = "needs Triton: pip install 'nsr[triton]' (Linux); torch for CUDA brings it"
pytestmark = pytest.mark.skipif(triton is None, reason=needs_triton)
OLD = triton is not None and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)


@pytest.mark.skipif(OLD, reason="an interpreter of Triton before 3.7 fails with NumPy 2.4")
def test_interpreted_kernels_compute_the_definition_and_its_gradients():
    """In a process of its own: a kernel is interpreted or not from Triton's import on."""
    cases = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(cases)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout


class AbsentGPU:
    """What Triton asks a driver before it compiles."""

    def __init__(self, capability: int):
        self.target = triton.backends.compiler.GPUTarget("cuda", capability, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.mark.parametrize(("capability", "dtype"), [(80, torch.float32), (90, torch.bfloat16)])  # A100, H100
def test_kernels_compile_to_machine_code_for_gpus_that_are_not_there(monkeypatch, tmp_path, capability, dtype):
    from nsr_cli.layers import fused

    compiled = {}

    class Compiling:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *arguments: compiled.update(
                {(self.kernel.__name__, arguments[2] is None): self.kernel.warmup(*arguments, grid=grid).asm}
            )

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for name in ("convolve_tile", "correlate_tile"):
        monkeypatch.setattr(fused, name, Compiling(getattr(fused, name)))
    x = torch.empty(2, 64, 48, 48, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    kernels = torch.empty(2, 32, 3, 3, 64, dtype=dtype).permute(0, 1, 4, 2, 3).requires_grad_()
    biases = torch.empty(2, 32, dtype=dtype, requires_grad=True)
    monkeypatch.setattr(triton.runtime.driver, "_active", AbsentGPU(capability))
    fused.Fused.apply(x, kernels, biases, (1, 1), (1, 1)).sum().backward()
    assert set(compiled) == {("convolve_tile", False), ("convolve_tile", True), ("correlate_tile", False)}
    for assembly in compiled.values():
        assert len(assembly["cubin"]) > 1000
        assert ("mma" in assembly["ptx"]) == (
            dtype == torch.bfloat16 or torch.backends.cudnn.allow_tf32
        )  # tensor cores
