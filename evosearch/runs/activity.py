"""What each worker of a search does and since when, for `evosearch status` of a running search."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import read_bytes, write_text

ACTIVITY = "activity.json"
_SECONDS_BETWEEN_WRITES = 1.0
_LARGEST = 2**20


class WorkerActivity(NamedTuple):
    """What a worker does: since when, in seconds since 1970."""

    worker: str
    doing: str
    since: float


class Activity:
    """Keeps what each thread does; a context manager that writes it to the run's directory.

    The file appears within a second and goes when the search ends. It only informs: where it
    cannot be written, the search goes on.
    """

    def __init__(self, directory: Path):
        self._path = directory / ACTIVITY
        self._doing: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="activity", daemon=True)

    def __enter__(self) -> Activity:
        self._writer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._writer.join()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """The calling thread does `text` from now on; nothing if it is empty."""
        name = threading.current_thread().name
        with self._lock:
            if text:
                self._doing[name] = text, time.time()
            else:
                self._doing.pop(name, None)

    def now(self) -> list[WorkerActivity]:
        """What each thread does that is at work."""
        with self._lock:
            doing = sorted(self._doing.items())
        return [WorkerActivity(name, text, since) for name, (text, since) in doing]

    def _write(self) -> None:
        written = None
        while not self._ended.wait(_SECONDS_BETWEEN_WRITES):
            now = self.now()
            if now != written:
                written = now
                text = json.dumps([one._asdict() for one in now])
                with suppress(EvosearchError):
                    write_text(self._path, text + "\n", durable=False, follow=False)


def read_activity(directory: Path) -> list[WorkerActivity]:
    """What the workers of a running search do; empty if nothing is known."""
    try:
        found = json.loads(read_bytes(directory / ACTIVITY, _LARGEST))
        return [
            WorkerActivity(str(one["worker"]), str(one["doing"]), float(one["since"]))
            for one in found
        ]
    except (UsageError, ValueError, KeyError, TypeError, RecursionError):
        return []
