"""Files of users and runs: written whole or not at all, read with care, errors in words.

A file is written under an unpredictable name beside its target, synced, then renamed. So at any
moment, and after a power failure, the target holds either its old content or all of the new.
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

_SECONDS_OF_A_WRITER = 60


def check_writable(path: Path) -> None:
    """Whether a file can be written to `path`, before anything expensive.

    Raises:
        UsageError: it is a directory, or lies in none that can be written to.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a directory; make it first")
    needed = [path] if path.exists() else []
    needed += [_target(path).parent] if _is_replaced(path) else []
    if not all(os.access(one, os.W_OK) for one in needed):
        raise UsageError(f"cannot write {path}: no permission; write it elsewhere")


@contextmanager
def whole(
    path: Path, durable: bool = True, follow: bool = True, mode: int = 0o666
) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends; `path` stays if it fails.

    A new file has the mode that `open` would give it, an existing one keeps its mode. A link stays
    a link, and the file that it points to is replaced. A device or pipe is written to directly.

    Args:
        path: where the file will be.
        durable: whether it is on disk when the block has ended; without that a power failure may
            empty it, and writing takes no time.
        follow: whether a link stays a link; for a file of a run, which may be a stranger's, the
            link itself is replaced.
        mode: the permissions of a new file, of which the umask takes some away.

    Raises:
        EvosearchError: the file cannot be written.
    """
    try:
        if not follow:
            yield from _replacing(path, durable, mode)
        elif _is_replaced(path):
            yield from _replacing(_target(path), durable, mode)
        else:
            with path.open("wb") as file:
                yield file
    except OSError as error:
        raise EvosearchError(f"cannot write {path}: {error.strerror or error}") from None


def _is_replaced(path: Path) -> bool:
    """Whether writing `path` makes or replaces a regular file."""
    return path.is_file() or not path.exists()


def _target(path: Path) -> Path:
    """The file that a link points to, or `path` itself."""
    return Path(os.path.realpath(path))


def _replacing(target: Path, durable: bool, mode: int) -> Iterator[BinaryIO]:
    """Yields a temporary file beside `target`, then renames it; removes it on any failure.

    Its name is random, and it is made anew or not at all: no file or link of that name is opened.
    """
    partial = target.with_name(f".evosearch-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.is_file() and not target.is_symlink():
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
            yield file
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` survive a power failure."""
    with suppress(PermissionError):  # a directory that may be written to but not listed
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # of file systems that sync no directories
                raise
        finally:
            os.close(descriptor)


def remove_rests(directory: Path) -> None:
    """Removes the temporary files of writers that were killed; not those of the last minute."""
    for path in directory.glob(".evosearch-*.tmp"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _SECONDS_OF_A_WRITER:
                path.unlink()


def write_bytes(path: Path, content: bytes, **how: Any) -> None:
    """Writes `content` to `path`, whole or not at all; keywords as for `whole`.

    Raises:
        EvosearchError: the file cannot be written.
    """
    with whole(path, **how) as file:
        file.write(content)


def write_text(path: Path, text: str, **how: Any) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all; keywords as for `whole`.

    Raises:
        EvosearchError: the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"), **how)


def read_bytes(path: Path, most: int) -> bytes:
    """The first `most` bytes of a regular file.

    Raises:
        UsageError: it cannot be read, or is a directory, a device or a pipe, which may never end.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"cannot read {path}: it is no regular file")
            return file.read(most)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opens `path`; a pipe that nobody writes to is opened too."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def explained(
    path: Path, *, again: str = "run the command again", mend: str = "restore it from a copy"
) -> Iterator[None]:
    """Turns what can go wrong with a database or another file at `path` into a line with a remedy.

    Args:
        path: the file's.
        again: what to do once a passing cause, such as a full disk, is gone.
        mend: what to do about a damaged file.

    Raises:
        EvosearchError: for whatever SQLite or the operating system said.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if path.exists() and not path.is_file():
            raise EvosearchError(f"{path} is no regular file; {mend}") from None
        if "readonly" in text or "unable to open" in text:
            raise EvosearchError(
                f"cannot write to {path}: it is read-only or missing; give its folder write "
                "permission or copy it elsewhere"
            ) from None
        if "full" in text or "disk I/O" in text:
            raise EvosearchError(
                f"the disk of {path} is full or failing ({text}); nothing that was committed is "
                f"lost: free some space, then {again}"
            ) from None
        if "locked" in text:
            raise EvosearchError(
                f"{path} is locked by another process; wait for it or stop it, then {again}"
            ) from None
        raise EvosearchError(f"{path} is damaged ({text}); {mend}") from None
    except sqlite3.DatabaseError as error:
        raise EvosearchError(f"{path} is no database or is damaged ({error}); {mend}") from None
    except UnicodeDecodeError as error:
        raise EvosearchError(
            f"{path} is damaged (not UTF-8 at byte {error.start}); {mend}"
        ) from None
    except OSError as error:
        raise EvosearchError(
            f"{error.filename or path}: {error.strerror}; nothing that was committed is lost"
        ) from None
