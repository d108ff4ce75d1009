"""What can go wrong with files, in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evosearch.errors import EvosearchError


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
