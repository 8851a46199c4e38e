"""Text for people: durations, counts, lines."""


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
