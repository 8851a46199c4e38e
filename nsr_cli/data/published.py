"""Published weights: the files listed in conf/model, and fetching those with a stable URL."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from nsr_cli.data.download import disk_errors, locked_downloads
from nsr_cli.data.fetch import MirrorFailed, download
from nsr_cli.errors import UserError
from nsr_cli.folders import package_folder
from nsr_cli.regular import file_sha256


@dataclass(frozen=True)
class Weights:
    """A published file of weights.

    Attributes:
        model: name of the model.
        file: path below the data root.
        sha256: of its content.
        url: to fetch it from; empty if it must be fetched by hand.
        ask: how to get it by hand.
    """

    model: str
    file: str
    sha256: str
    url: str
    ask: str


@functools.cache
def published() -> tuple[Weights, ...]:
    """All published weights that conf/model lists, model by model."""
    import yaml  # not for every start of the program

    found = []
    for path in sorted((package_folder("conf") / "model").glob("*.yaml")):
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        for files in (model.get("published") or {}).values():
            for file in files.values():
                url, ask = file.get("url", ""), model.get("ask", "")
                found.append(Weights(model["name"], file["file"], file["sha256"], url, ask))
    return tuple(found)


def get_weights(root: Path) -> list[Path]:
    """Fetch all published weights that have a URL into the data root, unless they are there; returns their files.

    Raises:
        UserError: some could not be fetched, after all were tried; the text says how to get each, or why it failed.
    """
    root, there, failures = Path(root).absolute(), [], []
    for weights in published():
        try:
            with disk_errors(weights.file, root):
                there.append(_get(weights, root))
        except UserError as error:
            failures.append(str(error))
    if failures:
        raise UserError("; ".join([f"{len(there)} of {len(published())} published weights are in {root}", *failures]))
    return there


def _get(weights: Weights, root: Path) -> Path:
    """Fetch one file unless it is there; a file of other content under its name is never overwritten."""
    path = root / weights.file
    if path.exists():
        if file_sha256(path) != weights.sha256:
            raise UserError(f"{weights.file}: another file than the published one lies there; move it away first")
        return path
    if not weights.url:
        raise UserError(f"{weights.file}: {weights.ask}")
    with locked_downloads(root) as downloads:
        half = downloads / f"{weights.sha256[:8]}-{path.name}"
        try:
            download(weights.url, f"sha256:{weights.sha256}", half, weights.file)
        except MirrorFailed as failure:
            raise UserError(f"{weights.file}: {weights.url}: {failure}; {weights.ask}") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(half, path)
    return path
