"""The exceptions that reach a user as one line, and their exit codes."""

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


def each(function: Callable, names: Iterable[str]) -> dict:
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
