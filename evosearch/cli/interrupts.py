"""Handling of Ctrl-C while a command starts, works and ends.

The module imports only the standard library, so that `evosearch.cli.main` can install a handler
before slow imports.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

INTERRUPTED_STATUS = 130
"""Exit status after Ctrl-C."""


class Interrupted(BaseException):
    """Raised on Ctrl-C, since Typer turns KeyboardInterrupt into exit status 1."""


def restore_default_handlers() -> None:
    """Let the next Ctrl-C or termination signal end the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def end_at_once(number: int, frame: object) -> None:
    """End the process at once, as a signal handler of commands that save each result immediately.

    Raising an exception instead is unsafe: Python ignores exceptions in some places, such as
    callbacks of the garbage collector, and they break imports of compiled modules.
    """
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    with suppress(OSError, ValueError):
        os.write(2, f"{show_cursor}interrupted\n".encode())
    exit_now(INTERRUPTED_STATUS)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on the first Ctrl-C in the block, and end the process on the second."""

    def interrupt(number: int, frame: object) -> None:
        restore_default_handlers()
        raise Interrupted

    previous_handler = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def exit_now(status: int) -> NoReturn:
    """End the process without waiting for trainings in other threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
