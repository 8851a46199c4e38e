"""Where the output goes: a full disk, a closed pipe, a folder that is gone. One line, and no exit code 0."""

import subprocess
import sys

import pytest
from terminal import environment


def run(folder, script: str) -> tuple[int, str]:
    """The exit code and the standard error of a shell's script, in which ``nsr`` is this program."""
    own = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    defined = f'set -o pipefail; nsr() {{ "{sys.executable}" -m nsr_cli "$@"; }}; {script}'
    result = subprocess.run(["bash", "-c", defined], cwd=folder, env=own, capture_output=True, text=True)
    return result.returncode, result.stderr


@pytest.mark.parametrize(("line", "name"), [("data list", "nsr data"), ("--help", "nsr"), ("--schema train", "nsr")])
def test_lost_output_is_said(tmp_path, line, name):
    full = f"{name}: No space left on device; what was finished is kept\n"
    assert run(tmp_path, f"nsr {line} > /dev/full") == (1, full)
    assert run(tmp_path, f"nsr {line} | true") == (141, "")


def test_a_current_folder_that_is_gone_is_one_line(tmp_path):
    said = "nsr: the current folder was removed; change to another one\n"
    assert run(tmp_path, "mkdir gone; cd gone; rmdir ../gone; nsr data list") == (2, said)
