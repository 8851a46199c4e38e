"""The command lines that run=true runs: whoever is interrupted waits for them."""

import signal
import subprocess
import sys

import pytest
from terminal import environment, wait_until

SAVES_SLOWLY = """
import pathlib, signal, sys, time
def save(number, frame):
    time.sleep(1)
    pathlib.Path("saved").write_text(str(number))
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
pathlib.Path("begun").touch()
time.sleep(60)
"""
CALL = """
import os, sys
from nsr_cli.commands.missing import call
sys.exit(call([sys.executable, "-c", sys.argv[1]], dict(os.environ)))
"""


@pytest.mark.parametrize(
    ("number", "passed_on"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)],
)
def test_an_interruption_is_passed_on_and_waited_for(tmp_path, number, passed_on):
    command = [sys.executable, "-c", CALL, SAVES_SLOWLY]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    wait_until((tmp_path / "begun").exists)
    process.send_signal(number)
    process.communicate()
    assert (tmp_path / "saved").read_text() == str(int(passed_on))
    assert process.returncode == (-signal.SIGINT if number == signal.SIGINT else 128 + passed_on)


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """As nohup does: the terminal is closed, and the training goes on."""
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{CALL}"
    command = [sys.executable, "-c", ignoring, SAVES_SLOWLY]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    wait_until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGINT)) and process.returncode == -signal.SIGINT


def test_the_exit_code_of_a_command_is_returned(tmp_path):
    command = [sys.executable, "-c", CALL, "raise SystemExit(7)"]
    assert subprocess.run(command, cwd=tmp_path, env=environment()).returncode == 7
