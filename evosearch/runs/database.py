"""The file of a run's database: made whole or not at all, locked, brought to the present schema."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import (
    explain_file_errors,
    remove_stale_temporary_files,
    sync_directory,
    write_text,
)
from evosearch.runs import migrations
from evosearch.runs.migrations import SCHEMA_VERSION
from evosearch.runs.rows import META, MetaRow

DATABASE = "run.db"
LOG = "log.jsonl"
"""The journal, which begins with the search."""
BEST = "best.txt"
"""The champion's program."""
_LOCK = "lock"
_OPEN_LOCK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A stranger's lock may be a link to anywhere, or a pipe that never opens."""
_UNFINISHED = "run.db.new"
"""The database while a run is being made; it becomes `DATABASE` when all else is written."""
_MAXIMUM_SECONDS_LOCKED = 10
_ATTEMPTS_TO_LOCK = 10


def create(
    directory: Path, meta: Mapping[str, str], files: Mapping[str, str] | None = None
) -> None:
    """Makes a new run in `directory`: `files`, by name, and then the database.

    The database appears last and whole. What is left of a run whose making was interrupted
    (see `is_unfinished`) is replaced.

    Raises:
        UsageError: there is a run already, or a file of somebody's that would be written over.
        EvosearchError: the directory cannot be written, or another process makes a run there.
    """
    path = directory / DATABASE
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvosearchError(
            f"cannot create the run directory {directory}: {error.strerror}; choose another --out"
        ) from None
    if not path.exists() and not is_unfinished(directory):
        _check_unused(directory, (*(files or {}), LOG, BEST))
    with explain_file_errors(path):
        lock = acquire_lock(directory)
    try:
        if path.exists() and not is_unfinished(directory):
            raise UsageError(
                f"{directory} holds a run already; continue it with `evosearch resume "
                f"{directory}` or give another --out"
            )
        with explain_file_errors(path, retry="start the search again, with the same --out"):
            _remove(path)
            for name, text in (files or {}).items():
                write_text(directory / name, text, follow=False)
            _make(directory / _UNFINISHED, {**meta, "schema_version": str(SCHEMA_VERSION)})
            os.replace(directory / _UNFINISHED, path)
            sync_directory(directory)
    except BaseException:
        _remove(directory / _UNFINISHED)
        raise
    finally:
        os.close(lock)


def _check_unused(directory: Path, names: Iterable[str]) -> None:
    """Whether a run can be made in `directory` without writing over somebody's files.

    Raises:
        UsageError: it cannot.
    """
    for name in names:
        if os.path.lexists(directory / name):
            raise UsageError(
                f"{directory} is no run and has a file {name}, which a run would write over; give "
                "--out a directory that is new"
            )


def is_unfinished(directory: Path) -> bool:
    """Whether making a run in `directory` was interrupted before it was whole.

    The database is then missing, or empty, or (as earlier versions made it) without any row.
    """
    path = directory / DATABASE
    if (directory / LOG).exists():
        return False  # the search had begun
    if not path.exists():
        return (directory / _LOCK).exists()
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    try:
        connection = connect(path, read_only=True)
        try:
            names = [row[0] for row in connection.execute(
                "select name from sqlite_master where type = 'table'"
            )]  # fmt: skip
            return not any(
                connection.execute(f"select 1 from [{name}] limit 1").fetchone() for name in names
            )
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError):
        return False  # damaged, which is another matter


def _make(path: Path, meta: Mapping[str, str]) -> None:
    """A new database at `path`, in one file that is written to the disk."""
    _remove(path)
    connection = sqlite3.connect(path)
    try:
        connection.execute("begin immediate")
        migrations.create(connection)
        for key, value in meta.items():
            connection.execute(META.insertion, META.stored(MetaRow(key, value)))
        connection.commit()
    finally:
        connection.close()


def _remove(path: Path) -> None:
    for beside in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """An open connection; one to read also where nothing can be written."""
    mode = "rw"
    if read_only:  # a closed run is one file, which can be read where nothing can be written
        mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_MAXIMUM_SECONDS_LOCKED,
        check_same_thread=False,
    )
    if not read_only:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
    return connection


def with_current_schema(
    path: Path, connection: sqlite3.Connection, *, in_memory: bool
) -> sqlite3.Connection:
    """The connection, or one to the migrated database.

    Args:
        path: the database's.
        connection: open on it.
        in_memory: migrate a copy in memory; otherwise the file, of which a copy is kept.

    Raises:
        EvosearchError: the database is of a newer version, or says of none.
    """
    version = _schema_version(path, connection)
    if version == SCHEMA_VERSION:
        return connection
    if in_memory:
        migrated = sqlite3.connect(":memory:", check_same_thread=False)
        connection.backup(migrated)
        connection.close()
        connection = migrated
    else:
        _back_up(connection, path.with_name(f"{DATABASE}.schema-{version}"))
    migrations.migrate(connection)
    return connection


def _schema_version(path: Path, connection: sqlite3.Connection) -> int:
    """The version of an open database, which is not newer than this one reads.

    Raises:
        EvosearchError: it is, or there is none.
    """
    row = connection.execute("select value from meta where key = 'schema_version'").fetchone()
    if row is None or not re.fullmatch("[1-9][0-9]{0,3}", str(row[0])):
        raise EvosearchError(f"{path} is damaged (no schema version); restore it from a copy")
    others = "select count(*) from sqlite_master where type in ('view', 'trigger')"
    if connection.execute(others).fetchone()[0]:  # they could make reading endless
        raise EvosearchError(f"{path} is damaged (it has views or triggers); restore a copy")
    version = int(row[0])
    if version > SCHEMA_VERSION:
        raise EvosearchError(
            f"{path} was written by a newer version (schema {version}, this one reads up to "
            f"{SCHEMA_VERSION}); upgrade evosearch"
        )
    return version


def _back_up(connection: sqlite3.Connection, path: Path) -> None:
    """A whole copy of the database at `path`, or none."""
    partial = path.with_name(f"{path.name}.new")
    _remove(partial)
    copy = sqlite3.connect(partial)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.replace(partial, path)


def acquire_lock(directory: Path) -> int:
    """A lock that the operating system drops when the process ends, however it ends."""
    descriptor = os.open(directory / _LOCK, _OPEN_LOCK | os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(_ATTEMPTS_TO_LOCK):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # perhaps by `is_being_searched` of another process, for a moment
            if attempt < _ATTEMPTS_TO_LOCK - 1:
                time.sleep(0.02)
    else:
        os.close(descriptor)
        raise EvosearchError(
            f"another process is searching in {directory}; watch it with "
            f"`evosearch status {directory}` or stop it first"
        )
    remove_stale_temporary_files(directory)
    return descriptor


def is_being_searched(directory: Path) -> bool:
    """Whether a process searches in `directory` now."""
    try:
        descriptor = os.open(directory / _LOCK, _OPEN_LOCK | os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
