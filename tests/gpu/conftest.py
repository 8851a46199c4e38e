"""The device that is checked: a GPU; or what NSR_GPU_CHECK_DEVICE names, for a trial of the checks on a CPU."""

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product: deterministic=true needs it


@pytest.fixture
def device(monkeypatch) -> torch.device:
    name = os.environ.get("NSR_GPU_CHECK_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
    if not name:
        pytest.skip("needs a GPU; NSR_GPU_CHECK_DEVICE=cpu tries the checks on a CPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as of every command of nsr
    return torch.device(name)


@pytest.fixture
def gpu(device) -> torch.device:
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    return device
