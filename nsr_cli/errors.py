"""The exceptions that reach a user as one line, and their exit codes."""

import sys
import traceback
from collections.abc import Callable, Iterable


class Reported(Exception):
    """Its text is one line, and all that a user needs to see."""

    exit_code = 1


class UserError(Reported):
    """Bad input: the value, what was expected, and what exists."""

    exit_code = 2


class Failed(Reported):
    """What was asked for was well formed, but did not succeed."""


class Held(Reported):
    """Another process works on it; the text says which. Repeating the command later may do."""

    exit_code = 75


class JobFailed(Reported):
    """A job failed in another process.

    Attributes:
        exit_code: of that process.
        trace: what it has printed last, where that tells more than the error's text.
    """

    def __init__(self, text: str, exit_code: int, trace: str):
        super().__init__(text)
        self.exit_code = exit_code
        self.trace = trace


def describe(error: BaseException) -> tuple[str, int, bool]:
    """(what to say of an error, exit code, whether it was foreseen and needs no traceback)."""
    cause: BaseException | None = error
    while cause is not None:  # a resolver's error arrives inside of OmegaConf's
        if isinstance(cause, Reported):
            return str(cause), cause.exit_code, True
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; what was finished is kept", 1, True
    if isinstance(error, MemoryError) or ("memory" in str(error).lower() and isinstance(error, RuntimeError)):
        return f"not enough memory; {str(error).splitlines()[0] if str(error) else 'on this machine'}", 1, True
    return f"{type(error).__name__}: {error}", 1, False


def report_error(name: str, error: BaseException, traces: set[str] | None = None) -> int:
    """Say what went wrong: one line if that was foreseen, else with a traceback. Returns the exit code.

    Args:
        name: of the command.
        traces: those that were shown before, which are not shown again; this one is added.
    """
    text, code, foreseen = describe(error)
    trace = error.trace if isinstance(error, JobFailed) else ""
    trace = trace if foreseen else "".join(traceback.format_exception(error))
    shown = "" if traces is not None and trace in traces else trace
    print(f"{shown}{name}: {text}", file=sys.stderr, flush=True)
    if traces is not None:
        traces.add(trace)
    return code


def find_each(function: Callable, names: Iterable[str]) -> dict:
    """What a function finds for each name. Raises UserError for all that it refuses, not for the first alone."""
    found, refusals = {}, []
    for name in names:
        try:
            found[name] = function(name)
        except UserError as error:
            refusals.append(str(error))
    if refusals:
        raise UserError("; ".join(refusals))
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` for an error's text, or nothing."""
    from difflib import get_close_matches  # not for every start of the program

    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
