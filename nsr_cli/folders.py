"""The folders of configs and experiments, and a digest of the code."""

import functools
import hashlib
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PLUGINS = PACKAGE / "plugins"  # Hydra plugins of a checkout; an installed package has them where Hydra looks
SUBMITTED_CODE = "NSR_SUBMITTED_CODE"  # environment variable of a job: the digest of the code that submitted it


def package_folder(name: str) -> Path:
    """The folder ``conf`` or ``experiments``: inside the installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def child_environment() -> dict[str, str]:
    """Environment variables with which a child Python process can import this package."""
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@functools.lru_cache
def code_digest() -> str:
    """SHA-256 (hex) of the package's code and configs on disk, computed at the first call."""
    digest = hashlib.sha256()
    for folder in (PACKAGE, package_folder("conf"), package_folder("experiments")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
