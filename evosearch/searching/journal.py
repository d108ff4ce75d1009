"""What a run leaves for people and other programs: `log.jsonl` and `best.txt`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from evosearch.files import explained, write_text
from evosearch.searching.database import LOG
from primitives import Program

BEST = "best.txt"


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
        with explained(path), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def champion(self, number: int, program: Program, generated: int) -> None:
        """Notes a champion that is new; `best.txt` holds its text, whole at any moment."""
        text = str(program)
        path = self.directory / BEST
        with explained(path):
            if self._best is None and path.exists():
                self._best = path.read_text(encoding="utf-8")
        if text == self._best:
            return
        self._best = text
        self.event("champion", id=number, generated=generated, source=text)
        write_text(path, text)
