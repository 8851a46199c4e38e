"""What restored pictures were made of, so that none passes for the output of another picture or network."""

import contextlib
import json
import os
from pathlib import Path

from nsr_cli.data.identity import sample_of
from nsr_cli.files import append_json_line, read_json_lines
from nsr_cli.regular import open_regular

FILE = ".nsr-restored.jsonl"  # in each folder of outputs, two lines for each picture: before it is written, and after


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
        known = self._last_line(output)
        if known is None or known["content"] is None:
            return None
        others = []
        if known["content"] != _sample(picture):
            same = known["picture"] == os.path.abspath(picture)
            others.append("of this picture before it changed" if same else f"of {known['picture']}")
        if known["by"] != self.by:
            others.append(f"by {known['by']}, not {self.by}")
        return " ".join(others) or None

    def is_changed(self, output: Path) -> bool:
        """Whether an existing output is known not to be what was written: the user's own work, or damaged."""
        known = self._last_line(output)
        return known is not None and known["written"] not in (None, _sample(output))

    def note(self, picture: Path, output: Path) -> None:
        """Note, before it is written, what an output will be made of.

        The line does not count while the output is still the file that it is to replace, for example after a kill.
        Nothing is known of a picture that was removed meanwhile.
        """
        made = {"content": _sample(picture), "replaces": _sample(output), "by": self.by}
        append_json_line(output.parent / FILE, {"output": output.name, "picture": os.path.abspath(picture), **made})

    def note_written(self, output: Path) -> None:
        """Note, after it was written, what is in an output."""
        append_json_line(output.parent / FILE, {"output": output.name, "written": _sample(output)})

    def _last_line(self, output: Path) -> dict | None:
        """The last line that counts for an output."""
        lines = reversed(self._of_folder(output.parent).get(output.name, []))
        return next((line for line in lines if not line["replaces"] or line["replaces"] != _sample(output)), None)

    def _of_folder(self, folder: Path) -> dict[str, list[dict]]:
        read, known = self._read.get(folder, (0, {}))
        with contextlib.suppress(FileNotFoundError), open_regular(folder / FILE) as file:
            file.seek(read)
            new, _, _ = file.read().rpartition(b"\n")
            for line in new.splitlines():
                with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):  # a damaged line
                    origin = json.loads(line)
                    lines = known.setdefault(origin["output"], [])
                    if "written" in origin:
                        lines[-1]["written"] = origin["written"]
                    else:
                        said = {name: origin[name] for name in ("picture", "content", "by", "replaces")}
                        lines.append({**said, "written": None})
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
