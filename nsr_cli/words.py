"""Text for people: durations, counts, lines."""

import contextlib
import errno
import os
import sys


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(number: int, noun: str) -> str:
    """A number and its noun, as in ``1 job`` and ``2 jobs``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def print_line(text: str) -> None:
    """Print a line at once, also into a file or a pipe."""
    print(text, flush=True)


def flush_output(ending: bool = False) -> None:
    """Write what was printed. What a closed terminal refuses goes nowhere.

    Python flushes the streams when a process ends, and a failure there would replace the exit code by 120 or 1.

    Args:
        ending: whether the exit code is settled; then whatever is refused goes nowhere.

    Raises:
        OSError: a full disk or a closed pipe refuses it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not ending and error.errno != errno.EIO:
                raise
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
