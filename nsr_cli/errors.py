"""The exceptions that reach a user as one line, and their exit codes."""

import contextlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator


class Reported(Exception):
    """An error whose text, one line, is all that a user needs to see."""

    exit_code = 1


class UserError(Reported):
    """Bad input: the text names the value, what was expected, and what exists."""

    exit_code = 2


class Failed(Reported):
    """A valid request that did not succeed."""


class Held(Reported):
    """Another process, which the text names, holds the folder. The command may be repeated later."""

    exit_code = 75


class JobFailed(Reported):
    """A job failed in another process.

    Attributes:
        exit_code: of that process.
        trace: its traceback, or the last lines that it printed; may be empty.
    """

    def __init__(self, text: str, exit_code: int, trace: str):
        super().__init__(text)
        self.exit_code = exit_code
        self.trace = trace


def reported_cause(error: BaseException) -> Reported | None:
    """The Reported error that an error is or wraps, as OmegaConf wraps those of resolvers; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, Reported):
        cause = cause.__cause__ or cause.__context__
    return cause


def describe(error: BaseException) -> tuple[str, int, bool]:
    """(text, exit code, foreseen) of an error; a foreseen error needs no traceback."""
    if cause := reported_cause(error):
        return str(cause), cause.exit_code, True
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; what was finished is kept", 1, True
    too_large = re.search("size calculation overflowed|Overflow when unpacking", str(error))  # torch's words
    too_large = too_large or ("memory" in str(error).lower() and isinstance(error, RuntimeError))
    if too_large or isinstance(error, MemoryError):
        return f"not enough memory; {str(error).splitlines()[0] if str(error) else 'on this machine'}", 1, True
    return f"{type(error).__name__}: {error}", 1, False


def report_error(name: str, error: BaseException, traces: set[str] | None = None) -> int:
    """Print an error: one line if it was foreseen, else with its traceback. Returns the exit code.

    Args:
        name: of the command.
        traces: tracebacks already printed, which are not repeated; this one is added.
    """
    text, code, foreseen = describe(error)
    trace = error.trace if isinstance(error, JobFailed) else ""
    trace = trace if foreseen else "".join(traceback.format_exception(error))
    shown = "" if traces is not None and trace in traces else trace
    print(f"{shown}{name}: {text}", file=sys.stderr, flush=True)
    if traces is not None:
        traces.add(trace)
    return code


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
    """Name a file in each UserError that does not name it."""
    try:
        yield
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None


def find_each(function: Callable, names: Iterable[str]) -> dict:
    """{name: function(name)}. If the function refuses names, raises one UserError for all of them."""
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
    """`` (did you mean x?)`` for an error's text, or an empty text."""
    from difflib import get_close_matches  # imported late, for a fast start

    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
