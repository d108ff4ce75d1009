"""The ledger: a database of finished trainings, so that evaluations repeat no training.

The key of a training covers everything that its result depends on: the contender, the task and its
data, the code of the language and of the tasks, the versions of the libraries and the kind of
machine. So a tuned baseline is trained once and reused by all later evaluations. The ledger also
records every evaluation, so the evaluations on held-out tasks can be counted.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

import proxies
from evosearch.errors import EvosearchError
from evosearch.files import explain_file_errors
from evosearch.measuring.job import JobResult
from evosearch.measuring.measurement import Engine
from proxies import Task

T = TypeVar("T")

LEDGER = Path("runs") / "evaluations.db"
"""Path of the ledger for commands without a run, relative to the working directory."""
_SCHEMA = """
create table if not exists trainings (
    key text primary key, description text not null, loss real, steps integer not null,
    engine text not null, curve blob not null, update_rms blob not null,
    seconds real not null, written text not null, checksum integer not null);
create table if not exists evaluations (
    id integer primary key, written text not null, split text not null, tasks text not null,
    contenders text not null, command text not null);
"""
_COLUMNS = 10
_SECONDS_LOCKED = 30.0
"""Seconds to wait while another process writes."""
_IN_MEMORY = Path(":memory:")


class Ledger:
    """A database of trainings. Safe to use from several threads and processes.

    Args:
        path: path of the database, which is created if the file does not exist; None for a
            ledger in memory.
        on_error: called once with a message when the file cannot be used; the ledger is then kept
            in memory. None to raise the error instead.

    Raises:
        EvosearchError: the file cannot be written or is damaged, and `on_error` is None.
    """

    def __init__(self, path: Path | None = None, on_error: Callable[[str], None] | None = None):
        self.path = path
        self._on_error = on_error
        self._lock = threading.RLock()
        self._db = self._with_memory_fallback(lambda: _open(self.path), lambda: _open(None))

    @classmethod
    def local(cls, on_error: Callable[[str], None] | None = None) -> Ledger:
        """Open the ledger of the working directory."""
        return cls(LEDGER, on_error)

    @classmethod
    def beside(cls, run: Path, on_error: Callable[[str], None] | None = None) -> Ledger:
        """Open the ledger in the folder that contains the run directory `run`."""
        return cls(run.absolute().parent / LEDGER.name, on_error)

    def get(self, key: str) -> JobResult | None:
        """Return the result of the training with this key; None if it is missing or damaged."""
        row = self._with_memory_fallback(lambda: self._row(key), lambda: None)
        return None if row is None else _result(row)

    def put(self, key: str, description: str, result: JobResult) -> None:
        """Store the result of a training.

        Args:
            key: key of the training; see `training_key`.
            description: text for people who read the database.
            result: result of the training.
        """
        values = (
            key,
            description,
            float(result.loss) if np.isfinite(result.loss) else None,
            int(result.steps),
            str(result.engine),
            result.train_loss.astype(np.float32).tobytes(),
            result.update_rms.astype(np.float32).tobytes(),
            float(result.seconds),
            _now(),
        )
        statement = f"insert or replace into trainings values ({', '.join('?' * _COLUMNS)})"
        self._write(statement, (*values, _checksum(values)))

    def log(self, split: str, tasks: Sequence[str], contenders: Sequence[str]) -> None:
        """Record the start of an evaluation of `contenders` on tasks of `split`."""
        row = (_now(), split, " ".join(tasks), json.dumps(contenders), " ".join(sys.argv))
        self._write(
            "insert into evaluations (written, split, tasks, contenders, command) "
            "values (?, ?, ?, ?, ?)",
            row,
        )

    def count_evaluations(self, split: str) -> int:
        """Return the number of evaluations on tasks of `split` that have begun."""

        def count() -> int:
            query = "select count(*) from evaluations where split = ?"
            return int(self._db.execute(query, (split,)).fetchone()[0])

        return self._with_memory_fallback(count, lambda: 0)

    def damaged(self) -> list[str]:
        """Return the descriptions of trainings whose checksum is wrong.

        Raises:
            EvosearchError: the file cannot be read.
        """
        with self._lock, self._explain_errors():
            rows = self._db.execute("select * from trainings").fetchall()
        return [str(row[1]).splitlines()[0] for row in rows if not _has_valid_checksum(row)]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _explain_errors(self) -> AbstractContextManager[None]:
        return explain_file_errors(
            self.path or _IN_MEMORY, remedy="move it away, and its trainings are repeated"
        )

    def _row(self, key: str) -> tuple[Any, ...] | None:
        row = self._db.execute("select * from trainings where key = ?", (key,)).fetchone()
        return row if row is not None and _has_valid_checksum(row) else None

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        def write() -> None:
            with self._db:
                self._db.execute(statement, values)

        self._with_memory_fallback(write, write)

    def _with_memory_fallback(self, operation: Callable[[], T], fallback: Callable[[], T]) -> T:
        """Return `operation()`.

        If the file fails, change to a ledger in memory and return `fallback()`.
        """
        with self._lock:
            try:
                with self._explain_errors():
                    return operation()
            except EvosearchError as error:
                if self._on_error is None or self.path is None:
                    raise
                self._on_error(f"trainings are not stored: {error}")
                self.path = None
                self._db = _open(None)
                return fallback()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path or ":memory:", timeout=_SECONDS_LOCKED, check_same_thread=False
    )
    try:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(_SCHEMA)
        _rename_older_table(connection)
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _rename_older_table(connection: sqlite3.Connection) -> None:
    """Rename the table of an older schema.

    Its trainings could not be reused in any case, since keys contain a digest of the code.
    """
    connection.execute("begin immediate")
    columns = connection.execute("pragma table_info(trainings)").fetchall()
    if len(columns) != _COLUMNS:
        connection.execute(f"alter table trainings rename to trainings_until_{int(time.time())}")
    connection.commit()


def _result(row: tuple[Any, ...]) -> JobResult:
    _, _, loss, steps, engine, curve, update_rms, *_ = row
    return JobResult(
        float("inf") if loss is None else loss,
        steps,
        Engine(engine),
        np.frombuffer(curve, np.float32),
        stopped=False,
        update_rms=np.frombuffer(update_rms, np.float32),
    )


def _has_valid_checksum(row: tuple[Any, ...]) -> bool:
    return bool(_checksum(row[:-1]) == row[-1])


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(values).encode())


def training_key(task: Task, *parts: Any) -> str:
    """Return the key of a training, 32 hexadecimal digits.

    Args:
        task: the task; its files and data are part of the key, like the code and the machine.
        parts: everything else that the result depends on, such as contender, setting, conditions,
            seed and engine; each is converted to a string.
    """
    texts = [task.name, json.dumps(proxies.digest(task)), _code_digest(), *map(str, parts)]
    return hashlib.blake2b("\x00".join(texts).encode(), digest_size=16).hexdigest()


@cache
def _code_digest() -> str:
    """Return a digest of the packages `primitives` and `proxies`, the libraries and the machine."""
    digest = hashlib.blake2b(digest_size=16)
    for package in ("primitives", "proxies"):
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for library in ("jax", "jaxlib", "numpy", "optax"):
        digest.update(f"{library} {version(library)}".encode())
    digest.update(f"{platform.machine()} {jax.devices()[0].device_kind}".encode())
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
