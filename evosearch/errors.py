"""Errors that a user can act on: one line, the culprit and the remedy."""

from __future__ import annotations


class EvosearchError(Exception):
    """The work failed; the message says what and what to do. The command line exits with 1."""

    exit_code = 1


class UsageError(EvosearchError):
    """Something was asked for wrongly. The command line exits with 2."""

    exit_code = 2
