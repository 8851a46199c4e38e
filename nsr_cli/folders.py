"""Where the config tree and the experiments lie."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def package_folder(name: str) -> Path:
    """``conf`` or ``experiments``: inside of the installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
