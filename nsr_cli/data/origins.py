"""What restored pictures were made of, so that none passes for the output of another picture or network."""

import contextlib
import json
import os
from pathlib import Path

from nsr_cli.data.identity import sample_of
from nsr_cli.files import append_json_line, read_json_lines

FILE = ".nsr-restored.jsonl"  # in each folder of outputs, a line for each picture


class Origins:
    """The origins of restored pictures, kept beside them; several processes may add to them.

    Args:
        by: the network and the options that restore now, in words.
    """

    def __init__(self, by: str):
        self.by = by
        self._read: dict[Path, tuple[int, dict[str, list[dict]]]] = {}  # bytes that were read, and what they say

    def other(self, picture: Path, output: Path) -> str | None:
        """What else an existing output was made of, in words; None if it is what is asked for, or unknown."""
        lines = reversed(self._of_folder(output.parent).get(output.name, []))
        known = next((line for line in lines if not line["replaces"] or line["replaces"] != _sample(output)), None)
        if known is None or known["content"] is None:
            return None
        others = []
        if known["content"] != _sample(picture):
            same = known["picture"] == os.path.abspath(picture)
            others.append("of this picture before it changed" if same else f"of {known['picture']}")
        if known["by"] != self.by:
            others.append(f"by {known['by']}, not {self.by}")
        return " ".join(others) or None

    def note(self, picture: Path, output: Path) -> None:
        """Note, before it is written, what an output will be made of.

        The line does not count while the output is still the file that it is to replace, for example after a kill.
        Nothing is known of a picture that was removed meanwhile.
        """
        made = {"content": _sample(picture), "replaces": _sample(output), "by": self.by}
        append_json_line(output.parent / FILE, {"output": output.name, "picture": os.path.abspath(picture), **made})

    def _of_folder(self, folder: Path) -> dict[str, list[dict]]:
        read, known = self._read.get(folder, (0, {}))
        with contextlib.suppress(FileNotFoundError), open(folder / FILE, "rb") as file:
            file.seek(read)
            new, _, _ = file.read().rpartition(b"\n")
            for line in new.splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # a damaged line
                    origin = {"replaces": None} | json.loads(line)
                    own = {name: origin[name] for name in ("picture", "content", "by", "replaces")}
                    known.setdefault(origin["output"], []).append(own)
            self._read[folder] = read + len(new), known
        return known


def _sample(path: Path) -> str | None:
    """A digest of a file, from its size and its ends; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return sample_of(path).hex()
    return None


def outputs_in(folder: Path) -> set[str]:
    """The names of the files in a folder that are restored pictures."""
    return {str(line.get("output")) for line in read_json_lines(folder / FILE)}
