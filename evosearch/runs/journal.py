"""Files of a run for people and other programs: `log.jsonl` and `best.txt`."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from evosearch.errors import UsageError
from evosearch.files import explain_file_errors, read_bytes, write_text
from evosearch.runs.database import BEST, LOG
from primitives import Program

_MAX_BYTES = 2**20
"""Maximum size of `best.txt` when it is read."""


class Journal:
    """Writer of a run's events: one JSON object per line, with the time in UTC."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._champion_text: str | None = None

    def write_event(self, kind: str, **fields: Any) -> None:
        """Append one event to the log."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, "event": kind, **fields})
        path = self.directory / LOG
        with (
            explain_file_errors(path),
            open(path, "a", encoding="utf-8", opener=_open_to_append) as file,
        ):
            file.write(line + "\n")

    def write_champion(self, number: int, program: Program, generated: int) -> None:
        """Log a champion and write its text to `best.txt`, unless the file already has this text.

        Args:
            number: The program's id.
            program: The champion.
            generated: Number of programs generated so far.
        """
        text = str(program)
        path = self.directory / BEST
        if self._champion_text is None:
            with suppress(UsageError, UnicodeDecodeError):  # a damaged file is replaced
                self._champion_text = read_bytes(path, _MAX_BYTES).decode()
        if text == self._champion_text:
            return
        self._champion_text = text
        self.write_event("champion", id=number, generated=generated, source=text)
        write_text(path, text, follow=False)


def _open_to_append(path: str, flags: int) -> int:
    """Open `path` to append, without following a link or blocking on a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
