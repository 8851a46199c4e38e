"""The scores of the images of a benchmark that is not finished: a killed command goes on after them."""

from collections.abc import Sequence
from pathlib import Path

from nsr_cli.data.identity import sample_of
from nsr_cli.files import append_json_line, read_json_lines


class PartialScores:
    """Scores of images by convention and metric, kept in a file until the record is written.

    Args:
        path: the file.
        key: of all that decides a score, beside the image; scores of another key are not taken.
        paths: the images of the benchmark.
    """

    def __init__(self, path: Path, key: str, paths: Sequence[Path]):
        self.path, self.key, self.paths = path, key, {path.name: path for path in paths}
        self.found: dict[str, dict] = {}
        for line in read_json_lines(path):
            if line.get("key") == key and line.get("sample") == self._sample(line.get("image")):
                self.found[line["image"]] = line

    def _sample(self, name: str) -> str | None:
        return sample_of(self.paths[name]).hex() if name in self.paths else ""

    def add(self, path: Path, scores: dict[str, dict[str, float]], seconds: float, keep: bool) -> None:
        """Add the scores of an image, which took some seconds; ``keep`` them in the file too."""
        line = {"image": path.name, "scores": scores, "seconds": seconds, "key": self.key}
        self.found[path.name] = line
        if keep:
            append_json_line(self.path, {**line, "sample": self._sample(path.name)})

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
