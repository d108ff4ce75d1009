"""Errors that a user can act on: one line, the culprit and the remedy."""

from __future__ import annotations


class EvosearchError(Exception):
    """The work failed; the message says what and what to do. The command line exits with 1."""

    exit_code = 1


class UsageError(EvosearchError):
    """Something was asked for wrongly. The command line exits with 2."""

    exit_code = 2


def told(error: BaseException) -> str:
    """An error in one line: its message, or for an unexpected one also its type."""
    lines = str(error).splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, EvosearchError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
