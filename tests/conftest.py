"""Fixtures that every test folder shares."""

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from nsr_cli import cli
from nsr_cli.commands.composing import Composer
from nsr_cli.commands.config import run_of
from nsr_cli.commands.hydra_setup import register_with_hydra
from nsr_cli.folders import package_folder


def pytest_configure() -> None:
    """Ctrl-C ends what the tests start also where it is ignored, as in the background of a script."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def nsr(tmp_path, monkeypatch, capfd):
    """Call ``nsr`` inside of the test's process, in an empty folder; data and results lie there, unless overridden."""
    for name in ("NSR_PROTOCOL", "NSR_RESULTS", "NSR_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> Result:
        capfd.readouterr()
        code = cli.run(shlex.split(line))
        return Result(code, *capfd.readouterr())

    return call


@functools.cache
def composer(verb: str) -> Composer:
    """Of a verb's configs; compositions are kept, for they take most of the time of a test of them."""

    def compose_anew(overrides: list[str]) -> DictConfig:
        register_with_hydra()
        with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
            return compose(verb, overrides)

    return Composer(compose_anew)


@pytest.fixture
def composed(monkeypatch):
    """The values of a command's config, as in ``composed("ablate tau=3")``."""
    for name in ("NSR_PROTOCOL", "NSR_RESULTS", "NSR_DATA"):
        monkeypatch.delenv(name, raising=False)
    return lambda line: composer(line.split()[0])(shlex.split(line)[1:])


@pytest.fixture
def asked(composed):
    """The run that a command asks for, as in ``asked("ablate tau=3")``."""
    return lambda line: run_of(composed(line), line.split()[0])


@pytest.fixture(scope="session")
def nsr_data() -> Path:
    """The folder of real benchmark images and published weights, or a skip that says how to get it."""
    folder = Path(os.environ.get("NSR_DATA", "data"))
    if not (folder / "Set5").is_dir():
        pytest.skip(f"needs the benchmark images: NSR_DATA={folder} has no Set5 folder")
    return folder


@pytest.fixture
def write(tmp_path, monkeypatch) -> Callable[[str, str], Path]:
    """Write a file of a user's own; what ends in .py can be imported then."""
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(sys.modules)

    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write_text
    for name in set(sys.modules) - loaded:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Two images of a user's own."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        smooth = cv2.resize(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8), (70, 60))
        (tmp_path / "photographs").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"photographs/{name}.png"), smooth)
    return tmp_path / "photographs"
