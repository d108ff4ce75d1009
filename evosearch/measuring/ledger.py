"""Every training that evaluations made, kept: nothing is trained twice, and looks are counted.

A row is found again only if everything that decides its result is the same: the contender, the
task and its data, the code of the language and of the tasks, the versions of the libraries and the
kind of machine. So a tuned baseline is trained once and serves every later evaluation. Each
evaluation leaves a line, so that anybody can see how often held-out tasks were looked at.
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
"""The ledger of commands that name no run, relative to the working directory."""
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
"""How long to wait for another process that writes."""
_IN_MEMORY = Path(":memory:")


class Ledger:
    """Trainings by what decides them; safe to use from several threads and processes.

    Args:
        path: the database, made if need be; None for one in memory.
        on_error: called once with a message when the file cannot be used; the ledger then stays in
            memory. None raises the error instead.

    Raises:
        EvosearchError: it cannot be written, or is damaged, and `on_error` is None.
    """

    def __init__(self, path: Path | None = None, on_error: Callable[[str], None] | None = None):
        self.path = path
        self._on_error = on_error
        self._lock = threading.RLock()
        self._db = self._guarded(lambda: _opened(self.path), lambda: _opened(None))

    @classmethod
    def local(cls, on_error: Callable[[str], None] | None = None) -> Ledger:
        """The one of the working directory."""
        return cls(LEDGER, on_error)

    @classmethod
    def beside(cls, run: Path, on_error: Callable[[str], None] | None = None) -> Ledger:
        """The one of the folder that holds the run directory `run`."""
        return cls(run.absolute().parent / LEDGER.name, on_error)

    def get(self, key: str) -> JobResult | None:
        """What the training with this key gave; None if it was never made, or is damaged."""
        row = self._guarded(lambda: self._row(key), lambda: None)
        return None if row is None else _result(row)

    def put(self, key: str, description: str, result: JobResult) -> None:
        """Keeps a training; `description` is for people."""
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
        """Notes that an evaluation of `contenders` on tasks of `split` begins."""
        row = (_now(), split, " ".join(tasks), json.dumps(contenders), " ".join(sys.argv))
        self._write(
            "insert into evaluations (written, split, tasks, contenders, command) "
            "values (?, ?, ?, ?, ?)",
            row,
        )

    def count_evaluations(self, split: str) -> int:
        """How many evaluations on tasks of `split` have begun."""

        def count() -> int:
            query = "select count(*) from evaluations where split = ?"
            return int(self._db.execute(query, (split,)).fetchone()[0])

        return self._guarded(count, lambda: 0)

    def damaged(self) -> list[str]:
        """The descriptions of trainings that are not as they were written.

        Raises:
            EvosearchError: the file cannot be read at all.
        """
        with self._lock, self._explained():
            rows = self._db.execute("select * from trainings").fetchall()
        return [str(row[1]).splitlines()[0] for row in rows if not _is_whole(row)]

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._db.close()

    def _explained(self) -> AbstractContextManager[None]:
        return explain_file_errors(
            self.path or _IN_MEMORY, remedy="move it away, and its trainings are made again"
        )

    def _row(self, key: str) -> tuple[Any, ...] | None:
        row = self._db.execute("select * from trainings where key = ?", (key,)).fetchone()
        return row if row is not None and _is_whole(row) else None

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        def write() -> None:
            with self._db:
                self._db.execute(statement, values)

        self._guarded(write, write)

    def _guarded(self, work: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """What `work` gives; after trouble with the file, what `otherwise` gives, in memory."""
        with self._lock:
            try:
                with self._explained():
                    return work()
            except EvosearchError as error:
                if self._on_error is None or self.path is None:
                    raise
                self._on_error(f"trainings are not kept: {error}")
                self.path = None
                self._db = _opened(None)
                return otherwise()


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path or ":memory:", timeout=_SECONDS_LOCKED, check_same_thread=False
    )
    try:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(_SCHEMA)
        _set_older_aside(connection)
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_older_aside(connection: sqlite3.Connection) -> None:
    """Renames the trainings of an older version; they would never be found: code has a digest."""
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


def _is_whole(row: tuple[Any, ...]) -> bool:
    return bool(_checksum(row[:-1]) == row[-1])


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(values).encode())


def training_key(task: Task, *parts: Any) -> str:
    """The key of a training: a digest of the task, its files, the code, the machine and `parts`.

    `parts` are what else decides it, as text: contender, setting, steps, schedule, seed, engine.
    """
    words = [task.name, json.dumps(proxies.digest(task)), _code_digest(), *map(str, parts)]
    return hashlib.blake2b("\x00".join(words).encode(), digest_size=16).hexdigest()


@cache
def _code_digest() -> str:
    """Of all that a training runs: the language, the tasks, the libraries, the kind of machine."""
    digest = hashlib.blake2b(digest_size=16)
    for package in ("primitives", "proxies"):
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for library in ("jax", "jaxlib", "numpy", "optax", "scikit-learn"):
        digest.update(f"{library} {version(library)}".encode())
    digest.update(f"{platform.machine()} {jax.devices()[0].device_kind}".encode())
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
