"""Where the config tree and the experiments lie, and which code is there."""

import functools
import hashlib
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PLUGINS = PACKAGE / "plugins"  # Hydra's; only in a checkout, for an installed package has them where Hydra looks
SUBMITTED_CODE = "NSR_SUBMITTED_CODE"  # environment variable of a job: the digest of the code that submitted it


def package_folder(name: str) -> Path:
    """``conf`` or ``experiments``: inside of the installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def child_environment() -> dict[str, str]:
    """Environment variables with which a process of Python imports this package, wherever it lies."""
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@functools.lru_cache
def code_digest() -> str:
    """SHA-256 of the package's code and configs, as they lie on the disk when it is first asked."""
    digest = hashlib.sha256()
    for folder in (PACKAGE, package_folder("conf"), package_folder("experiments")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
