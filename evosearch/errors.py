"""Errors for users: one line that names the cause and the remedy."""

from __future__ import annotations


class EvosearchError(Exception):
    """Raised when a command fails; the command line exits with status 1.

    The message says what failed and what to do.
    """

    exit_code = 1


class UsageError(EvosearchError):
    """Raised for invalid input; the command line exits with status 2."""

    exit_code = 2


def describe_error(error: BaseException) -> str:
    """Return an exception on one line: its type and the first line of its message.

    JAX wraps an exception from a callback in an error whose text contains a traceback. For this
    error the callback's own exception is described. For an `EvosearchError` only the message is
    returned.
    """
    text = str(error).strip()
    if isinstance(error, EvosearchError):
        return " ".join(text.split("\n"))
    type_name, message = type(error).__name__, text
    _, has_traceback, traceback = text.partition(_TRACEBACK_HEAD)
    if has_traceback:  # frames are indented; the line of the exception is not
        exception_lines = [line for line in traceback.split("\n") if line and not line[0].isspace()]
        if exception_lines:
            type_name, _, message = exception_lines[0].partition(":")
            type_name = type_name.rpartition(".")[2]
    first_line = message.strip().partition("\n")[0].rstrip()
    return f"{type_name}: {first_line}" if first_line else type_name


_TRACEBACK_HEAD = "Traceback (most recent call last):"
