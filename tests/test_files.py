"""Whole files or none, and one process to a folder."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from nsr_cli.errors import UserError
from nsr_cli.files import check_writable, name_file_in_errors, read_json_lines, replacing, write_json, write_text

SYSTEMS = {"with fcntl": "", "without fcntl": "import sys; sys.modules['fcntl'] = None"}
HOLD = """
import sys
from pathlib import Path
from nsr_cli.errors import Held
from nsr_cli.files import hold_folder
try:
    with hold_folder(Path(sys.argv[1]), wait=sys.argv[2] == "waits", say=lambda text: print(text, flush=True)):
        print("has it", flush=True)
        sys.stdin.read()
except Held as error:
    print(error, flush=True)
"""


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


def test_a_text_may_name_files_of_any_bytes(tmp_path):
    write_text(tmp_path / "b.html", os.fsdecode(b"photos \xff"))
    assert (tmp_path / "b.html").read_text() == "photos \\udcff"


def test_a_pipe_in_the_place_of_statistics_is_named(tmp_path):
    os.mkfifo(tmp_path / "stats.jsonl")
    with pytest.raises(OSError, match=f"a pipe or a socket, not a regular file: '{tmp_path}/stats.jsonl'"):
        read_json_lines(tmp_path / "stats.jsonl")


def test_what_the_system_refuses_names_the_file(tmp_path):
    path, before = tmp_path / "record.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_json(path, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as a disk that is full, or a quota
    try:
        with pytest.raises(OSError) as refused:
            write_text(path, "x" * 10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "{}\n" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError) as refused, name_file_in_errors(path), open("/dev/full", "w") as file:
        file.write("x")
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(FileNotFoundError) as refused, replacing(path):
        (tmp_path / "another").read_bytes()
    assert refused.value.filename == str(tmp_path / "another")  # not what was being written


@pytest.fixture(params=SYSTEMS)
def start(tmp_path, request):
    """Start a process that holds a folder until its standard input ends, on a system with or without fcntl."""
    started = []

    def run(waits: bool) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-c", SYSTEMS[request.param] + HOLD, tmp_path / "a" / "folder"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, "waits" if waits else "leaves"], **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_held_folder_names_its_holder_to_who_leaves_and_to_who_waits(tmp_path, start):
    (first := start(waits=False)).stdout.readline()
    said = start(waits=False).stdout.readline()
    holder = f"{tmp_path}/a/folder is held by process {first.pid} on "
    assert said.startswith(holder) and said.endswith("; not waiting (wait=true would)\n")
    second = start(waits=True)
    said = second.stdout.readline()
    assert said.startswith(holder) and said.endswith("; waiting for it (wait=false leaves)\n")
    assert first.poll() is None
    first.communicate()
    assert second.stdout.readline() == "has it\n"
    second.communicate()
    assert {path.name for path in (tmp_path / "a" / "folder").iterdir()} <= {"lock"}


def test_a_killed_holder_lets_go(tmp_path, start):
    folder = tmp_path / "a" / "folder"
    (first := start(waits=False)).stdout.readline()
    (folder / ".weights.pt.host-1.tmp").touch()  # half written
    first.kill()
    first.wait()
    second = start(waits=False)
    assert second.stdout.readline() == "has it\n"
    assert {path.name for path in folder.iterdir()} == {"lock", "holder"}
    assert f"process {second.pid} on" in (folder / "holder").read_text()
