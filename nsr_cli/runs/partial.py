"""The scores of the images of a benchmark that is not finished: a killed command goes on after them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from nsr_cli.data.identity import sample_of
from nsr_cli.files import append_json_line, read_json_lines


class PartialScores:
    """Scores of images by convention and metric, kept in a file until the record is written.

    Args:
        path: the file; None to keep them in memory alone.
        key: of all that decides a score, beside the image; scores of another key are not taken.
        paths: the images of the benchmark.
    """

    def __init__(self, path: Path | None, key: str, paths: Sequence[Path]):
        self.path, self.key, self.paths = path, key, {path.name: path for path in paths}
        lines = [(str(line.get("image")), line) for line in (read_json_lines(path) if path else ())]
        self.found = {
            name: line for name, line in lines if name in self.paths and line.get("digest") == self._digest(name, line)
        }

    def _digest(self, name: str, line: dict) -> str:
        """SHA-256 of the key, the image, and what a line says of it."""
        said = self.key, sample_of(self.paths[name]).hex(), *map(line.get, ("image", "scores", "seconds"))
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def add(self, path: Path, scores: dict[str, dict[str, float]], seconds: float) -> None:
        """Add the scores of an image, which took some seconds."""
        self.found[path.name] = line = {"image": path.name, "scores": scores, "seconds": seconds}
        if self.path:
            append_json_line(self.path, {**line, "digest": self._digest(path.name, line)})

    def remove_file(self) -> None:
        """Remove the file, once the record holds the scores."""
        if self.path:
            self.path.unlink(missing_ok=True)

    @property
    def left(self) -> list[Path]:
        """The images without scores."""
        return [path for name, path in self.paths.items() if name not in self.found]

    @property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """The scores of each image, by its name."""
        return {name: self.found[name]["scores"] for name in self.paths if name in self.found}

    @property
    def seconds(self) -> float:
        """The time that all scores took."""
        return sum(line["seconds"] for line in self.found.values())
