"""Errors that a user can act on: one line, the culprit and the remedy."""

from __future__ import annotations


class EvosearchError(Exception):
    """The work failed; the message says what and what to do. The command line exits with 1."""

    exit_code = 1


class UsageError(EvosearchError):
    """Something was asked for wrongly. The command line exits with 2."""

    exit_code = 2


def describe_error(error: BaseException) -> str:
    """An exception on one line: its type and the first line of its message.

    JAX reports an exception inside a callback as an error of its own whose text holds a traceback;
    what is told is the callback's exception. An `EvosearchError` is told by its message alone.
    """
    text = str(error).strip()
    if isinstance(error, EvosearchError):
        return " ".join(text.split("\n"))
    kind, message = type(error).__name__, text
    _, is_traceback, trace = text.partition(_TRACEBACK)
    if is_traceback:  # its frames are indented, and the exception after them is not
        ends = [line for line in trace.split("\n") if line and not line[0].isspace()]
        if ends:
            kind, _, message = ends[0].partition(":")
            kind = kind.rpartition(".")[2]
    first = message.strip().partition("\n")[0].rstrip()
    return f"{kind}: {first}" if first else kind


_TRACEBACK = "Traceback (most recent call last):"
