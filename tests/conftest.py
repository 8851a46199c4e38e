"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def nsr_data() -> Path:
    """The folder of real benchmark images and published weights, or a skip that says how to get it."""
    folder = Path(os.environ.get("NSR_DATA", "data"))
    if not (folder / "Set5").is_dir():
        pytest.skip(f"needs the benchmark images: NSR_DATA={folder} has no Set5 folder")
    return folder
