"""SIGINT, SIGTERM and SIGUSR2, put off to a moment at which nothing is half done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

TIME_IS_UP = signal.SIGUSR2  # Slurm sends it, if asked to, some time before a job's limit
SIGNALS = (signal.SIGINT, signal.SIGTERM, TIME_IS_UP)  # the last counts most


@contextlib.contextmanager
def answered(numbers: Iterable[int], handler: Callable) -> Iterator[None]:
    """Have a function called for signals, but not for those that this process was told to ignore, as by nohup."""
    before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


class Interrupts:
    """Which signal has come, if any; ``leave`` ends the process as that signal would have."""

    def __init__(self) -> None:
        self.came: int | None = None

    def look(self) -> int | None:
        """The signal that has come; to be asked once a step."""
        if TIME_IS_UP in signal.sigpending():
            self.came = TIME_IS_UP
        return self.came

    def leave(self) -> None:
        if self.came == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.came)


@contextlib.contextmanager
def deferred() -> Iterator[Interrupts]:
    """Collect signals instead of acting on them, until the end; a second SIGINT acts at once.

    A second SIGTERM does not, for Slurm sends several.
    SIGUSR2, which goes to a job's every process, stays blocked meanwhile: so it is in all that is started here (helpers
    of a compiler, readers of data), which it would end.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interrupts
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: object) -> None:
        if interrupts.came != TIME_IS_UP:  # which counts most
            interrupts.came = number
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    for number in SIGNALS:
        signal.signal(number, note)  # of SIGUSR2 too: a thread of before may take it
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {TIME_IS_UP})
    try:
        yield interrupts
    finally:
        if interrupts.look() == TIME_IS_UP and hasattr(signal, "sigtimedwait"):
            signal.sigtimedwait({TIME_IS_UP}, 0)  # it need not come again
        for number in SIGNALS:
            signal.signal(number, before[number])
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if interrupts.came:  # and was not left by
        signal.raise_signal(interrupts.came)
