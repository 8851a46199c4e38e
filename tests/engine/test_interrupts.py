"""Signals that are put off: none is lost, and what a training has started does not die of one for all processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from terminal import wait_until

from nsr_cli.engine.interrupts import SIGNALS, TIME_IS_UP, deferred_signals

PYTHON = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(1000)"]


@pytest.fixture
def start():
    """Start a child that does nothing; its process id."""
    children = []

    def run(kind: str) -> int:
        if kind == "fork":
            if (pid := os.fork()) == 0:
                time.sleep(1000)
                os._exit(1)
        else:
            process = subprocess.Popen(PYTHON if kind == "python" else ["sleep", "1000"], stdout=subprocess.PIPE)
            pid = process.pid
            assert kind != "python" or process.stdout.readline() == b"ready\n"
        children.append(pid)
        return pid

    yield run
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL  # and has not ended before


def waiting_signals(pid: int) -> set[int]:
    """Those that have come to a living process and are blocked."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["State"][0] != "Z"
    return {number for number in range(1, 65) if int(status["ShdPnd"], 16) >> (number - 1) & 1}


@pytest.fixture
def acted():
    """The signals that have acted, as before and after `deferred_signals`."""
    acted = []
    before = {number: signal.signal(number, lambda number, frame: acted.append(number)) for number in SIGNALS}
    yield acted
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def thread():
    """A thread of before, which may take a signal."""
    end = threading.Event()
    (thread := threading.Thread(target=end.wait)).start()
    yield thread
    end.set()
    thread.join()


@pytest.mark.parametrize("kind", ["fork", "program", "python"])
def test_the_time_is_up_for_a_process_and_not_for_its_children(start, kind, acted):
    with deferred_signals() as interrupts:
        child = start(kind)
        assert interrupts.pending() is None
        for pid in (child, os.getpid()):  # as Slurm sends it to all processes of a job
            os.kill(pid, TIME_IS_UP)
        wait_until(lambda: interrupts.pending() == TIME_IS_UP)
        assert waiting_signals(child) == {TIME_IS_UP}  # for ever: it neither ends nor acts


def test_a_thread_of_before_may_take_it(thread, acted):
    with deferred_signals() as interrupts:
        signal.pthread_kill(thread.ident, TIME_IS_UP)
        wait_until(lambda: interrupts.received == TIME_IS_UP)  # without a look, which sees it before the thread does
    assert acted == [TIME_IS_UP]


@pytest.mark.parametrize("taken_by", ["the process", "a thread of before"])
@pytest.mark.parametrize("number", SIGNALS)
def test_what_comes_too_late_to_be_looked_at_acts_once_and_afterwards(number, taken_by, thread, acted):
    with deferred_signals() as interrupts:
        if taken_by == "the process":
            os.kill(os.getpid(), number)
        else:
            signal.pthread_kill(thread.ident, number)
        wait_until(lambda: interrupts.received or signal.sigpending())
        assert acted == []
    wait_until(lambda: acted)
    assert acted == [number]


@pytest.mark.parametrize("others", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGTERM]])
def test_that_the_time_is_up_counts_most(others, acted):
    with deferred_signals() as interrupts:
        for number in (*others, TIME_IS_UP):
            os.kill(os.getpid(), number)
        wait_until(lambda: interrupts.pending() == TIME_IS_UP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_leaves_as_the_signal_would_have_ended_it(number):
    with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
        with deferred_signals() as interrupts:
            os.kill(os.getpid(), number)
            wait_until(lambda: interrupts.pending() == number)  # any thread may take it
            interrupts.end_process()
    assert isinstance(ended.value, KeyboardInterrupt) if number == signal.SIGINT else ended.value.code == 128 + number


def test_a_hangup_that_nohup_has_ignored_stays_ignored(acted):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the end of `acted`
    with deferred_signals() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert interrupts.pending() is None
    assert acted == []


def test_a_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it did not")


def test_afterwards_all_is_as_before():
    def now() -> tuple:
        return [signal.getsignal(number) for number in SIGNALS], signal.pthread_sigmask(signal.SIG_BLOCK, ())

    before = now()
    with pytest.raises(ZeroDivisionError), deferred_signals():
        assert now() != before
        raise ZeroDivisionError
    assert now() == before


UNFLUSHED = """
import os, signal, sys
from multiprocessing import get_context
from nsr_cli.engine.interrupts import Interrupts
os.read({fd}, 1)  # until the terminal is closed
sys.stdout = open(1, "w", buffering=4096)
def end():
    print("not flushed")
    Interrupts().end_process(signal.SIGHUP)
"""
ENDS = {
    "interpreter": "end()",
    "process": "child = get_context('fork').Process(target=end); child.start(); child.join(); os._exit(child.exitcode)",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_exit_code_does_not_depend_on_a_closed_terminal(how):
    (ours, terminal), (reading, writing) = os.openpty(), os.pipe()
    code = UNFLUSHED.format(fd=reading) + ENDS[how]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[reading], **streams)
    for end in (ours, terminal, reading, writing):
        os.close(end)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
