"""SIGINT and SIGTERM, put off to a moment at which nothing is half done."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Which signal has come, if any; ``leave`` ends the process as that signal would have."""

    came: int | None = None

    def leave(self) -> None:
        if self.came == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.came)


@contextlib.contextmanager
def deferred() -> Iterator[Interrupts]:
    """Collect SIGINT and SIGTERM instead of acting on them; a second one of a kind acts at once."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interrupts
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: object) -> None:
        interrupts.came = number
        signal.signal(number, before[number])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield interrupts
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
