"""Where the config tree and the experiments lie: in an installed package, or beside it in a bare checkout."""

import importlib.util
from pathlib import Path


def package_folder(name: str) -> Path:
    """The folder of ``nsr_cli.conf`` or ``nsr_cli.experiments``."""
    spec = importlib.util.find_spec(f"nsr_cli.{name}")
    if spec and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(__file__).resolve().parent.parent / name
