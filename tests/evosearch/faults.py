"""Fault injection: counts the calls that write, and makes one of them fail or kill the process."""

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


def die(call: str) -> None:
    """Kill this process, as a power failure would."""
    os.kill(os.getpid(), signal.SIGKILL)


class Faults:
    """Counts calls that write, and calls `act` before call `number`.

    Attributes:
        calls: number of calls so far.
        failed: the call before which `act` was called; None if `act` was not called.
    """

    def __init__(self, number: int | None, act: Callable[[str], None]):
        self.calls = 0
        self.number = number
        self.act = act
        self.failed: str | None = None

    def count(self, call: str) -> None:
        self.calls += 1
        if self.calls == self.number:
            self.failed = call
            self.act(call)


_WRITES = ("insert", "update", "delete", "create", "drop", "alter", "begin", "pragma journal")


@contextmanager
def faults(number: int | None, act: Callable[[str], None] = fail) -> Iterator[Faults]:
    """Make the `number`-th call that writes fail inside the block; None only counts calls."""
    layer = Faults(number, act)

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql.lstrip().startswith(_WRITES):
                layer.count(f"sqlite {sql[:40]}")
            return super().execute(sql, *args)

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            layer.count(f"sqlite {sql[:40]}")
            return super().executemany(sql, *args)

        def commit(self) -> None:
            layer.count("sqlite commit")
            super().commit()

    def counting(module: Any, name: str) -> Callable[..., Any]:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            layer.count(f"{name}")
            return original(*args, **kwargs)

        return call

    real_open, real_connect = io.open, sqlite3.connect

    def counting_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+"):
            layer.count(f"open {mode}")
        return real_open(file, mode, *args, **kwargs)

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        layer.count("sqlite connect")
        return real_connect(*args, **{"factory": Connection, **kwargs})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        patch.setattr(io, "open", counting_open)
        patch.setattr(builtins, "open", counting_open)
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, counting(os, name))
        yield layer
