"""Ctrl-C: what it does while a command starts, works and ends.

Imports nothing but Python's own modules, so that `evosearch.cli.main` can listen before the imports
that take time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class Interrupted(BaseException):
    """Ctrl-C; a class of its own because the command library turns KeyboardInterrupt into 1."""


def next_signal_kills() -> None:
    """From now on Ctrl-C or a termination signal ends the process at once, whatever it does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def end_at_once(number: int, frame: object) -> None:
    """Ends a command that keeps what it has as it goes.

    An exception would be lost where Python ignores those, as in a callback of its garbage
    collector, and breaks imports of compiled modules.
    """
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    with suppress(OSError, ValueError):
        os.write(2, f"{show_cursor}interrupted\n".encode())
    leave(INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """While it is open, the first Ctrl-C raises `Interrupted` and the second ends the process."""

    def interrupt(number: int, frame: object) -> None:
        next_signal_kills()
        raise Interrupted

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(status: int) -> NoReturn:
    """Ends the process without waiting for trainings that other threads are at."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
