"""Atomic writes, guarded reads, and readable errors for the files of users and runs.

A file is written under a random name beside its target, synced to disk and renamed. So at any
moment, and after a power failure, the target has either its old content or all of the new content.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from evosearch.errors import EvosearchError, UsageError

_MIN_STALE_SECONDS = 60
"""Minimum age of a temporary file that is considered abandoned."""


def check_writable(path: Path) -> None:
    """Check that a file can be written to `path`, before any expensive work starts.

    Raises:
        UsageError: `path` is a directory, or its parent directory is missing or not writable.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a directory; create it first")
    must_be_writable = [path] if path.exists() else []
    must_be_writable += [_link_target(path).parent] if _is_replaceable(path) else []
    if not all(os.access(required, os.W_OK) for required in must_be_writable):
        raise UsageError(f"cannot write {path}: no permission; choose another path")


@contextmanager
def atomic_write(
    path: Path, durable: bool = True, follow: bool = True, mode: int = 0o666
) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an exception.

    If the block raises, `path` keeps its content. A replaced file keeps its mode. A device or pipe
    is written to directly.

    Args:
        path: The file to write.
        durable: Whether to sync the file to disk. Without syncing, writing is faster, but a power
            failure may leave the file empty.
        follow: Whether to follow a symbolic link and replace the file that it points to. False
            replaces the link itself, as needed in a run directory, whose links cannot be trusted.
        mode: Permissions of a new file, before the umask is applied.

    Raises:
        EvosearchError: The file cannot be written.
    """
    try:
        if not follow:
            yield from _replace(path, durable, mode)
        elif _is_replaceable(path):
            yield from _replace(_link_target(path), durable, mode)
        else:
            with path.open("wb") as file:
                yield file
    except OSError as error:
        raise EvosearchError(f"cannot write {path}: {error.strerror or error}") from None


def _is_replaceable(path: Path) -> bool:
    """Whether `path` is a regular file or does not exist."""
    return path.is_file() or not path.exists()


def _link_target(path: Path) -> Path:
    """Return the file that a symbolic link points to, or `path` if it is not a link."""
    return Path(os.path.realpath(path))


def _replace(target: Path, durable: bool, mode: int) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `target`, then rename it; remove it on any failure.

    The name is random, and `O_EXCL` ensures that no existing file or link of that name is opened.
    """
    temporary = target.with_name(f".evosearch-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.is_file() and not target.is_symlink():
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
            yield file
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that renames and new files in it survive a power failure."""
    with suppress(PermissionError):  # a directory that is writable but not readable
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems cannot sync directories
                raise
        finally:
            os.close(descriptor)


def remove_stale_temporary_files(directory: Path) -> None:
    """Remove temporary files of killed processes, except those of the last minute."""
    for path in directory.glob(".evosearch-*.tmp"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _MIN_STALE_SECONDS:
                path.unlink()


def write_bytes(path: Path, content: bytes, **options: Any) -> None:
    """Write `content` to `path` atomically.

    Args:
        path: The file to write.
        content: Its new content.
        **options: Keyword arguments of `atomic_write`.

    Raises:
        EvosearchError: The file cannot be written.
    """
    with atomic_write(path, **options) as file:
        file.write(content)


def write_text(path: Path, text: str, **options: Any) -> None:
    """Write `text` to `path` atomically, encoded as UTF-8.

    Args:
        path: The file to write.
        text: Its new content.
        **options: Keyword arguments of `atomic_write`.

    Raises:
        EvosearchError: The file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"), **options)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the first `max_bytes` bytes of a regular file.

    Raises:
        UsageError: The file cannot be read, or is a directory, device or pipe.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"cannot read {path}: it is not a regular file")
            return file.read(max_bytes)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _open_without_waiting(path: str, flags: int) -> int:
    """Open `path` without blocking on a pipe that has no writer."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def explain_file_errors(
    path: Path, *, retry: str = "run the command again", remedy: str = "restore it from a copy"
) -> Iterator[None]:
    """Convert errors of SQLite and the operating system into an `EvosearchError` with a remedy.

    Args:
        path: The database or other file that the block uses.
        retry: What to do once a temporary cause, such as a full disk, is gone.
        remedy: What to do about a damaged file.

    Raises:
        EvosearchError: SQLite or the operating system reported an error.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if path.exists() and not path.is_file():
            raise EvosearchError(f"{path} is not a regular file; {remedy}") from None
        if "readonly" in text or "unable to open" in text:
            raise EvosearchError(
                f"cannot write to {path}: it is read-only or missing; give its folder write "
                "permission or copy it elsewhere"
            ) from None
        if "full" in text or "disk I/O" in text:
            raise EvosearchError(
                f"the disk of {path} is full or failing ({text}); committed data are safe: free "
                f"some space, then {retry}"
            ) from None
        if "locked" in text:
            raise EvosearchError(
                f"{path} is locked by another process; wait for it or stop it, then {retry}"
            ) from None
        raise EvosearchError(f"{path} is damaged ({text}); {remedy}") from None
    except sqlite3.DatabaseError as error:
        raise EvosearchError(
            f"{path} is not a database or is damaged ({error}); {remedy}"
        ) from None
    except UnicodeDecodeError as error:
        raise EvosearchError(
            f"{path} is damaged (not UTF-8 at byte {error.start}); {remedy}"
        ) from None
    except OSError as error:
        raise EvosearchError(
            f"{error.filename or path}: {error.strerror}; committed data are safe"
        ) from None
