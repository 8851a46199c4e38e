"""Whole files or none, and one process to a folder."""

import subprocess
import sys
import time

import pytest

from nsr_cli.errors import Held, UserError
from nsr_cli.files import check_writable, hold, replacing, write_json, write_text

HOLDER = """
import sys, time
from pathlib import Path
from nsr_cli.files import hold
with hold(Path(sys.argv[1]), wait=True, say=print):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start_holder(folder, seconds: float) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"psnr": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n "psnr": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a/b", "results", "a file", "a file/results", "/proc/results"])
def test_whether_a_folder_can_be_written_to_is_known_without_a_trace(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "a file").touch()
    if name in ("a/b", "results"):
        check_writable("results", name)
    else:
        with pytest.raises(UserError, match=rf"^results={name}: cannot be written to \(N.*: /"):
            check_writable("results", name)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a file", tmp_path / "results"]


def test_folders_are_made_on_the_way(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "text")
    assert (tmp_path / "a" / "b.txt").read_text() == "text"


def test_a_held_folder_names_its_holder(tmp_path):
    holder = start_holder(tmp_path, 30)
    try:
        with pytest.raises(Held, match=rf"{tmp_path} is held by process {holder.pid} on .* since .*; not waiting"):
            with hold(tmp_path, wait=False, say=print):
                pass
    finally:
        holder.kill()
        holder.wait()


def test_waiting_ends_when_the_holder_does_and_a_killed_holder_lets_go(tmp_path):
    holder, said = start_holder(tmp_path, 1), []
    began = time.monotonic()
    with hold(tmp_path, wait=True, say=said.append):
        assert time.monotonic() - began > 0.2
    assert len(said) == 1 and f"process {holder.pid}" in said[0] and "waiting for it" in said[0]
    holder.wait()

    holder = start_holder(tmp_path, 30)
    holder.kill()
    holder.wait()
    with hold(tmp_path, wait=False, say=print):
        pass
