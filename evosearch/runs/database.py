"""The file of a run's database: atomic creation, locking and migration."""

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
"""The log of events, which exists once the search has started."""
BEST = "best.txt"
"""The file with the text of the champion's program."""
_LOCK = "lock"
_LOCK_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags for opening the lock, which in an untrusted run may be a link or a pipe."""
_UNFINISHED = "run.db.new"
"""The database while a run is created; renamed to `DATABASE` once all other files are written."""
_LOCK_TIMEOUT_SECONDS = 10
_LOCK_ATTEMPTS = 10


def create(
    directory: Path, meta: Mapping[str, str], files: Mapping[str, str] | None = None
) -> None:
    """Create a run: write its files, then its database.

    The database is created last and atomically. The remains of an interrupted creation (see
    `is_unfinished`) are replaced.

    Args:
        directory: The run's directory; created if it does not exist.
        meta: Entries of the table `meta`.
        files: Texts of further files, by name.

    Raises:
        UsageError: The directory holds a run, or files that the run would overwrite.
        EvosearchError: The directory cannot be written, or another process creates a run in it.
    """
    path = directory / DATABASE
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvosearchError(
            f"cannot create the run directory {directory}: {error.strerror}; choose another --out"
        ) from None
    if not path.exists() and not is_unfinished(directory):
        _check_no_conflicts(directory, (*(files or {}), LOG, BEST))
    with explain_file_errors(path):
        lock = acquire_lock(directory)
    try:
        if path.exists() and not is_unfinished(directory):
            raise UsageError(
                f"{directory} holds a run already; continue it with `evosearch resume "
                f"{directory}` or choose another --out"
            )
        with explain_file_errors(path, retry="start the search again, with the same --out"):
            _remove(path)
            for name, text in (files or {}).items():
                write_text(directory / name, text, follow=False)
            _create_database(
                directory / _UNFINISHED, {**meta, "schema_version": str(SCHEMA_VERSION)}
            )
            os.replace(directory / _UNFINISHED, path)
            sync_directory(directory)
    except BaseException:
        _remove(directory / _UNFINISHED)
        raise
    finally:
        os.close(lock)


def _check_no_conflicts(directory: Path, names: Iterable[str]) -> None:
    """Check that none of the files that a run writes exists in `directory`.

    Raises:
        UsageError: At least one of these files exists.
    """
    for name in names:
        if os.path.lexists(directory / name):
            raise UsageError(
                f"{directory} is not a run and has a file {name}, which a run would overwrite; "
                "choose a new directory for --out"
            )


def is_unfinished(directory: Path) -> bool:
    """Whether the creation of a run was interrupted before it was complete.

    The database of an unfinished run is missing, empty or (in earlier versions) without rows.
    """
    path = directory / DATABASE
    if (directory / LOG).exists():
        return False  # the search has started
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
        return False  # damaged, not unfinished


def _create_database(path: Path, meta: Mapping[str, str]) -> None:
    """Create a database in one file and sync it to disk."""
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
    """Delete a database and the files that SQLite creates beside it, if they exist."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the database at `path`; reading needs no write permission."""
    mode = "rw"
    if read_only:  # without a write-ahead log, `immutable` avoids creating files beside it
        mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "ro&immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_LOCK_TIMEOUT_SECONDS,
        check_same_thread=False,
    )
    if not read_only:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
    return connection


def with_current_schema(
    path: Path, connection: sqlite3.Connection, *, in_memory: bool
) -> sqlite3.Connection:
    """Return a connection to the database with the current schema, migrated if necessary.

    Args:
        path: The database.
        connection: An open connection to the database.
        in_memory: Whether to migrate a copy in memory. Otherwise the file is migrated, and a copy
            of the old file is kept beside it.

    Raises:
        EvosearchError: The database has a newer schema version, or no schema version.
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
    """Return the schema version of an open database.

    Raises:
        EvosearchError: The version is newer than `SCHEMA_VERSION`, or missing.
    """
    row = connection.execute("select value from meta where key = 'schema_version'").fetchone()
    if row is None or not re.fullmatch("[1-9][0-9]{0,3}", str(row[0])):
        raise EvosearchError(f"{path} is damaged (no schema version); restore it from a copy")
    count_views = "select count(*) from sqlite_master where type in ('view', 'trigger')"
    if connection.execute(count_views).fetchone()[0]:  # reading a view could take forever
        raise EvosearchError(
            f"{path} is damaged (it has views or triggers); restore it from a copy"
        )
    version = int(row[0])
    if version > SCHEMA_VERSION:
        raise EvosearchError(
            f"{path} was written by a newer version (schema {version}, this version reads up to "
            f"{SCHEMA_VERSION}); upgrade evosearch"
        )
    return version


def _back_up(connection: sqlite3.Connection, path: Path) -> None:
    """Write a copy of the database to `path` atomically."""
    temporary = path.with_name(f"{path.name}.new")
    _remove(temporary)
    copy = sqlite3.connect(temporary)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.replace(temporary, path)


def acquire_lock(directory: Path) -> int:
    """Lock a run for searching and return the lock's file descriptor.

    The operating system releases the lock when the process ends for any reason.

    Raises:
        EvosearchError: Another process holds the lock.
    """
    descriptor = os.open(directory / _LOCK, _LOCK_FLAGS | os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # `is_being_searched` in another process locks briefly
            if attempt < _LOCK_ATTEMPTS - 1:
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
    """Whether a process is searching in `directory` now."""
    try:
        descriptor = os.open(directory / _LOCK, _LOCK_FLAGS | os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
