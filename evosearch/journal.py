"""What a run leaves for people and other programs: `log.jsonl` and `best.txt`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from evosearch.store import explained
from primitives import Program

LOG = "log.jsonl"
BEST = "best.txt"


class Journal:
    """Writes events as they come, a JSON object a line with the time in UTC."""

    def __init__(self, directory: Path):
        self.directory = directory

    def event(self, kind: str, **fields: Any) -> None:
        """Appends one event."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, "event": kind, **fields})
        path = self.directory / LOG
        with explained(path), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def champion(self, number: int, program: Program, generated: int) -> None:
        """Notes a new champion and keeps its text, whole at any moment, in `best.txt`."""
        self.event("champion", id=number, generated=generated, source=str(program))
        path = self.directory / BEST
        with explained(path):
            path.with_suffix(".new").write_text(str(program), encoding="utf-8")
            os.replace(path.with_suffix(".new"), path)
