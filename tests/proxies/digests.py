"""The digests of all data sources and bundled tasks.

`python -m tests.proxies.digests` records the digests. They change only with a task or its data;
older runs with that task can then not be resumed.
"""

import json
from pathlib import Path

import proxies

_FILE = Path(__file__).with_suffix(".json")


def current() -> dict:
    """Return the digests of the sources and, part by part, of the tasks."""
    tasks = {name: proxies.digest(proxies.load(name)) for name in proxies.names()}
    return {"sources": proxies.digests(), "tasks": tasks}


def recorded() -> dict:
    return json.loads(_FILE.read_text())


if __name__ == "__main__":
    _FILE.write_text(json.dumps(current(), indent=1) + "\n")
