"""Signals that end a process, deferred until nothing is half done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

from nsr_cli.words import flush_output

TIME_IS_UP = getattr(signal, "SIGUSR2", None)  # Slurm sends it, if asked to, some time before a job's limit
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")  # SIGHUP comes when the terminal is closed
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # the last takes precedence


@contextlib.contextmanager
def handling_signals(numbers: Iterable[int], handler: Callable) -> Iterator[None]:
    """Call ``handler`` for these signals inside the block, except for signals that this process ignores (nohup)."""
    before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


class Interrupts:
    """The signal received while signals are deferred, if any.

    Attributes:
        received: its number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def pending(self) -> int | None:
        """The received signal, or None. Called once a step."""
        if TIME_IS_UP and TIME_IS_UP in signal.sigpending():
            self.received = TIME_IS_UP
        return self.received

    def end_process(self, number: int | None = None) -> None:
        """End this process as the received signal would, or as ``number``, which another process received."""
        self.received = number or self.received
        flush_output(ending=True)
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)


@contextlib.contextmanager
def deferred_signals() -> Iterator[Interrupts]:
    """Collect signals instead of acting on them, and act at the end; a second SIGINT acts at once.

    A second SIGTERM does not, as Slurm sends several. An ignored SIGHUP (nohup) stays ignored. SIGUSR2 goes to every
    process of a job. It stays blocked here and in processes started meanwhile (of a compiler, readers of data), which
    it would end.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interrupts
        return
    usual = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: object) -> None:
        if interrupts.received is None or interrupts.received != TIME_IS_UP:  # takes precedence
            interrupts.received = number
        if number == signal.SIGINT:
            signal.signal(number, usual[number])

    with (
        handling_signals(SIGNALS, note),
        _time_is_up_blocked(),
    ):  # SIGUSR2 is noted at the end, or when a thread of before takes it
        yield interrupts
    if interrupts.received:  # and end_process was not called
        signal.raise_signal(interrupts.received)


@contextlib.contextmanager
def _time_is_up_blocked() -> Iterator[None]:
    """Block SIGUSR2 in this thread, and in processes started meanwhile."""
    if not TIME_IS_UP:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {TIME_IS_UP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
