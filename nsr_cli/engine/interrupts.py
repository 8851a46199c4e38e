"""Signals that end a process, put off to a moment at which nothing is half done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

TIME_IS_UP = getattr(signal, "SIGUSR2", None)  # Slurm sends it, if asked to, some time before a job's limit
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")  # SIGHUP comes when the terminal is closed
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # the last counts most


@contextlib.contextmanager
def handling(numbers: Iterable[int], handler: Callable) -> Iterator[None]:
    """Have a function called for signals, but not for those that this process was told to ignore, as by nohup."""
    before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


class Interrupts:
    """Which signal has come, if any; ``end_process`` ends the process as that signal would have."""

    def __init__(self) -> None:
        self.received: int | None = None

    def pending(self) -> int | None:
        """The signal that has come; to be asked once a step."""
        if TIME_IS_UP and TIME_IS_UP in signal.sigpending():
            self.received = TIME_IS_UP
        return self.received

    def end_process(self, number: int | None = None) -> None:
        """End as the signal that has come ends a process, or one that came to another process."""
        self.received = number or self.received
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)


@contextlib.contextmanager
def deferred_signals() -> Iterator[Interrupts]:
    """Collect signals instead of acting on them, until the end; a second SIGINT acts at once.

    A second SIGTERM does not, for Slurm sends several. Nohup's SIGHUP is still ignored.
    SIGUSR2, which goes to a job's every process, stays blocked meanwhile: so it is in all that is started here (helpers
    of a compiler, readers of data), which it would end.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interrupts
        return
    usual = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: object) -> None:
        if interrupts.received is None or interrupts.received != TIME_IS_UP:  # which counts most
            interrupts.received = number
        if number == signal.SIGINT:
            signal.signal(number, usual[number])

    with (
        handling(SIGNALS, note),
        _time_is_up_blocked(),
    ):  # SIGUSR2 is noted at the end, or when a thread of before takes it
        yield interrupts
    if interrupts.received:  # and was not left by
        signal.raise_signal(interrupts.received)


@contextlib.contextmanager
def _time_is_up_blocked() -> Iterator[None]:
    """SIGUSR2 waits, here and in all that is started here."""
    if not TIME_IS_UP:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {TIME_IS_UP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
