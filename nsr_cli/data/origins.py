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
        self._read: dict[Path, tuple[int, dict[str, dict]]] = {}  # bytes that were read, and what they say, by folder

    def other(self, picture: Path, output: Path) -> str | None:
        """What else an existing output was made of, in words; None if it is what is asked for, or unknown."""
        known = self._of_folder(output.parent).get(output.name)
        if known is None or known["content"] is None:
            return None
        others = []
        if known["content"] != sample_of(picture).hex():
            same = known["picture"] == os.path.abspath(picture)
            others.append("of this picture before it changed" if same else f"of {known['picture']}")
        if known["by"] != self.by:
            others.append(f"by {known['by']}, not {self.by}")
        return " ".join(others) or None

    def is_changed(self, output: Path) -> bool:
        """Whether an existing output is known not to be what was written: the user's own work, or damaged."""
        written = self._of_folder(output.parent).get(output.name, {}).get("written")
        return written is not None and written != sample_of(output).hex()

    def note(self, picture: Path, output: Path) -> None:
        """Note that a picture was restored into an output; nothing is known of one that was removed meanwhile."""
        origin = {"output": output.name, "picture": os.path.abspath(picture), "by": self.by}
        origin |= {"content": None, "written": None}
        with contextlib.suppress(FileNotFoundError):
            origin |= {"content": sample_of(picture).hex(), "written": sample_of(output).hex()}
        append_json_line(output.parent / FILE, origin)

    def _of_folder(self, folder: Path) -> dict[str, dict]:
        read, known = self._read.get(folder, (0, {}))
        with contextlib.suppress(FileNotFoundError), open(folder / FILE, "rb") as file:
            file.seek(read)
            new, _, _ = file.read().rpartition(b"\n")
            for line in new.splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):  # a damaged line says nothing
                    origin = json.loads(line)
                    known[origin["output"]] = {name: origin[name] for name in ("picture", "content", "by", "written")}
            self._read[folder] = read + len(new), known
        return known


def outputs_in(folder: Path) -> set[str]:
    """The names of the files in a folder that are restored pictures."""
    return {str(line.get("output")) for line in read_json_lines(folder / FILE)}
