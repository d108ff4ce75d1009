"""What a run leaves for people and other programs: `log.jsonl` and `best.txt`."""

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

_LARGEST = 2**20


class Journal:
    """Writes events as they come, a JSON object a line with the time in UTC."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._best: str | None = None

    def event(self, kind: str, **fields: Any) -> None:
        """Appends one event."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, "event": kind, **fields})
        path = self.directory / LOG
        with explain_file_errors(path), open(path, "a", encoding="utf-8", opener=_appended) as file:
            file.write(line + "\n")

    def champion(self, number: int, program: Program, generated: int) -> None:
        """Notes a champion that is new; `best.txt` holds its text, whole at any moment."""
        text = str(program)
        path = self.directory / BEST
        if self._best is None:
            with suppress(UsageError, UnicodeDecodeError):  # a damaged one is written anew
                self._best = read_bytes(path, _LARGEST).decode()
        if text == self._best:
            return
        self._best = text
        self.event("champion", id=number, generated=generated, source=text)
        write_text(path, text, follow=False)


def _appended(path: str, flags: int) -> int:
    """Opens `path` to append; a link in a run may lead anywhere, and a pipe never open."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
