"""Fault injection: the calls that write are counted, and one fails or kills the process."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def fail(call: str) -> None:
    """Raise the error of a full or broken disk."""
    if call.startswith("sqlite"):
        raise sqlite3.OperationalError("disk I/O error")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call)


def kill_this_process(call: str) -> None:
    """Kill this process, as a power failure would."""
    os.kill(os.getpid(), signal.SIGKILL)


class WriteCounter:
    """Counts calls that write, and calls `on_fault` before one of the calls.

    Args:
        number: number of the call before which `on_fault` is called, from 1; None for no call.
        on_fault: function of a description of the call; raises an error or kills the process.

    Attributes:
        calls: number of calls so far.
        failed: description of the call before which `on_fault` was called; None before this call.
    """

    def __init__(self, number: int | None, on_fault: Callable[[str], None]):
        self.calls = 0
        self.number = number
        self.on_fault = on_fault
        self.failed: str | None = None

    def count(self, call: str) -> None:
        """Count a call, and call `on_fault` if the number of calls is `number`."""
        self.calls += 1
        if self.calls == self.number:
            self.failed = call
            self.on_fault(call)


_WRITING_STATEMENTS = (
    *("insert", "update", "delete", "create", "drop", "alter", "begin"),
    "pragma journal",
)
"""Beginnings of the SQL statements that write."""


@contextmanager
def fault_at_write(
    number: int | None, on_fault: Callable[[str], None] = fail
) -> Iterator[WriteCounter]:
    """Make the `number`-th call that writes fail inside the block; None only counts the calls.

    Calls that write are those of SQLite, `open` for writing, and some functions of `os`.
    """
    counter = WriteCounter(number, on_fault)

    class CountingConnection(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql.lstrip().startswith(_WRITING_STATEMENTS):
                counter.count(f"sqlite {sql[:40]}")
            return super().execute(sql, *args)

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            counter.count(f"sqlite {sql[:40]}")
            return super().executemany(sql, *args)

        def commit(self) -> None:
            counter.count("sqlite commit")
            super().commit()

    def counting_function(name: str) -> Callable[..., Any]:
        """Return a function that counts the call and then calls the function `name` of `os`."""
        original = getattr(os, name)

        def count_and_call(*args: Any, **kwargs: Any) -> Any:
            counter.count(name)
            return original(*args, **kwargs)

        return count_and_call

    original_open, original_connect = io.open, sqlite3.connect

    def counting_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+"):
            counter.count(f"open {mode}")
        return original_open(file, mode, *args, **kwargs)

    def counting_connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        counter.count("sqlite connect")
        return original_connect(*args, **{"factory": CountingConnection, **kwargs})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting_connect)
        patch.setattr(io, "open", counting_open)
        patch.setattr(builtins, "open", counting_open)
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, counting_function(name))
        yield counter
