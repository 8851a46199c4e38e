"""The same command from every kind of install, from any directory."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import CHECKOUT, environment

PARTS = ["nsr_cli", "conf", "experiments"]
SWEEP = ["ablate", "-m", "tau=1,2", "sparsity=softmax", "hydra/launcher=local", "dry_run=true"]
PROBE = "import nsr_cli, sys; from nsr_cli.cli import run; print(nsr_cli.__file__); sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("nsr-*.whl"))


def call(python_path: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    own = environment(PYTHONPATH=str(python_path))
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=own, capture_output=True, text=True)


def test_from_a_wheel_everything_comes_from_the_wheel(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    done = call(site, elsewhere, "-c", PROBE, "table", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site)) and "Table 1" in done.stdout
    assert sorted(p.name for p in (site / "nsr_cli/conf").iterdir() if p.suffix == ".yaml") == sorted(
        p.name for p in (CHECKOUT / "conf").glob("*.yaml")
    )
    assert len(list((site / "nsr_cli/data/manifests").glob("*.json"))) == len(
        list((CHECKOUT / "nsr_cli/data/manifests").glob("*.json"))
    )
    shipped = {path.name for path in (CHECKOUT / "nsr_cli/shipped").iterdir()}
    assert {path.name for path in (site / "nsr_cli/shipped").iterdir()} == shipped >= {"README.md"}
    shutil.rmtree(elsewhere / "results")
    done = call(site, elsewhere, "-c", PROBE, "ablate", "dry_run=true", "blocks=1")
    assert done.returncode == 0 and "parameters" in done.stdout, done.stderr
    done = call(site, elsewhere, "-c", PROBE, *SWEEP)
    assert done.returncode == 0 and done.stdout.count("would be submitted") == 2, done.stderr


def test_from_a_bare_checkout(tmp_path):
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = call(tmp_path, tmp_path, "-m", "nsr_cli", "table", "1")
    assert done.returncode == 0 and "Table 1" in done.stdout, done.stderr
    done = call(tmp_path, tmp_path, "-m", "nsr_cli", *SWEEP)
    assert done.returncode == 0 and done.stdout.count("would be submitted") == 2, done.stderr


def test_the_installed_script_works_from_any_directory(tmp_path):
    script = Path(sys.executable).with_name("nsr")
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("nsr ")


def test_pins_satisfy_the_lower_bounds_and_cover_what_is_installed():
    pins = dict(line.split("==") for line in (CHECKOUT / "constraints.txt").read_text().split())
    wanted = (CHECKOUT / "setup.cfg").read_text()
    for name in ("torch", "hydra-core", "omegaconf", "numpy", "opencv-python-headless", "scikit-image", "pandas"):
        assert name in pins and f"\n    {name}>=" in wanted
