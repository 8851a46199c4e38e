"""Fixtures of the tests of fetching: a server, an empty data root, and the toy data set."""

import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import NAMES, Server

from nsr_cli.data import fetch
from nsr_cli.data.datasets import DATASETS, Dataset, Source
from nsr_cli.data.manifest import write_manifest


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    monkeypatch.setattr(fetch, "CHUNK", 100)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def images(tmp_path) -> Path:
    """Three RGB, one grey, one JPEG image of noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape in zip(NAMES, [(40, 30, 3), (40, 30, 3), (24, 36, 3), (20, 20), (16, 16, 3)], strict=True):
        cv2.imwrite(str(folder / name), generator.integers(0, 256, shape, dtype=np.uint8))
    return folder


@pytest.fixture
def toy(monkeypatch, tmp_path, images):
    """Registers the data set `toy` (the images above) with the given mirrors, and its manifest."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    monkeypatch.setattr("nsr_cli.data.manifest.MANIFESTS", manifests)

    def register(*sources: Source, name="toy", manifest=True, files=(), **more) -> Dataset:
        dataset = Dataset(
            name,
            "Toy",
            5,
            True,
            "test",
            "none",
            "noise",
            folders=(name.title(),),
            sources=sources,
            files=files,
            **more,
        )
        monkeypatch.setitem(DATASETS, name, dataset)
        if manifest:
            shutil.copytree(images, tmp_path / "original" / name.title())
            write_manifest(name, tmp_path / "original", manifests)
        return dataset

    return register
