"""Files that a user names: written whole or not at all, and what can go wrong, in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evosearch.errors import EvosearchError, UsageError


def check_writable(path: Path) -> None:
    """Whether a file can be written to `path`, before anything expensive.

    Raises:
        UsageError: it is a directory, or lies in none that can be written to.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a directory; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission; write it elsewhere")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` once all of it is written.

    That is beside it; a device, a pipe or what a link points to is written as it is.

    Raises:
        EvosearchError: the file cannot be written.
    """
    beside = not path.is_symlink() and (path.is_file() or not path.exists())
    partial = path.with_name(f".{path.name}") if beside else path
    try:
        yield partial
        if beside:
            os.replace(partial, path)
    except OSError as error:
        raise EvosearchError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if beside:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all.

    Raises:
        EvosearchError: the file cannot be written.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a database or another file at `path` into a line with a remedy.

    Raises:
        EvosearchError: for whatever SQLite or the operating system said.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "readonly" in text or "unable to open" in text:
            raise EvosearchError(
                f"cannot write to {path}: it is read-only or missing; give the directory write "
                "permission or copy the run elsewhere"
            ) from None
        if "full" in text or "disk I/O" in text:
            raise EvosearchError(
                f"the disk of {path} is full or failing ({text}); nothing that was committed is "
                f"lost: free some space, then run `evosearch resume {path.parent}`"
            ) from None
        if "locked" in text:
            raise EvosearchError(
                f"{path} is locked by another process; wait for it or stop it"
            ) from None
        raise EvosearchError(f"{path} is damaged ({text}); restore it from a copy") from None
    except sqlite3.DatabaseError as error:
        raise EvosearchError(
            f"{path} is not a run database or is damaged ({error}); restore it from a copy"
        ) from None
    except OSError as error:
        raise EvosearchError(
            f"{error.filename or path}: {error.strerror}; nothing that was committed is lost"
        ) from None
