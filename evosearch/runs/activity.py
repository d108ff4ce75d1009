"""Current activity of each worker of a running search, for `evosearch status`."""

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
_MAX_BYTES = 2**20
"""Maximum size of the file that is read."""


class WorkerActivity(NamedTuple):
    """Activity of one worker.

    Attributes:
        worker: Name of the worker's thread.
        doing: Description of the activity.
        since: Time at which the activity began, in seconds since 1970.
    """

    worker: str
    doing: str
    since: float


class ActivityWriter:
    """Context manager that writes the activity of each thread to a file in the run directory.

    The file appears within a second and is removed when the search ends. If the file cannot be
    written, the search continues without the file.
    """

    def __init__(self, directory: Path):
        self._path = directory / ACTIVITY
        self._activities: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="activity", daemon=True)

    def __enter__(self) -> ActivityWriter:
        self._writer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._writer.join()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """Set the activity of the calling thread; an empty text means that the thread is idle."""
        name = threading.current_thread().name
        with self._lock:
            if text:
                self._activities[name] = text, time.time()
            else:
                self._activities.pop(name, None)

    def now(self) -> list[WorkerActivity]:
        """Return the activities of the threads that are not idle."""
        with self._lock:
            activities = sorted(self._activities.items())
        return [WorkerActivity(name, text, since) for name, (text, since) in activities]

    def _write(self) -> None:
        """Write the activities once a second if they have changed, until the search ends."""
        last_written = None
        while not self._ended.wait(_SECONDS_BETWEEN_WRITES):
            activities = self.now()
            if activities != last_written:
                last_written = activities
                text = json.dumps([activity._asdict() for activity in activities])
                with suppress(EvosearchError):
                    write_text(self._path, text + "\n", durable=False, follow=False)


def read_activity(directory: Path) -> list[WorkerActivity]:
    """Return the activities of a run's workers; empty if the file is missing or damaged."""
    try:
        records = json.loads(read_bytes(directory / ACTIVITY, _MAX_BYTES))
        return [
            WorkerActivity(str(record["worker"]), str(record["doing"]), float(record["since"]))
            for record in records
        ]
    except (UsageError, ValueError, KeyError, TypeError, RecursionError):
        return []
