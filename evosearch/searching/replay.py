"""Replaying a run: measurements made earlier bring evolution to where it was."""

from __future__ import annotations

import sqlite3
from collections import deque

from evosearch.searching.evolution import Evolution, Request
from evosearch.searching.measurement import Measurement
from evosearch.searching.store import Store
from primitives import parse


class Replay:
    """Hands out measurements made earlier, so that evolution comes to where it was."""

    def __init__(self, store: Store):
        self._results = store.results()
        self._at_frontier = not self._results
        self._outstanding: set[int] = set()
        self._injections = deque(store.injections(used=True))
        self._injected: set[int] = set()

    @property
    def replaying(self) -> bool:
        """Whether some of what is in the store is still to be told."""
        return not self._at_frontier or bool(self._outstanding)

    def take(self, request: Request) -> dict[str, Measurement] | None:
        """What was measured for `request`; the first thing unknown is the frontier."""
        known = self._results.pop((request.record.key, request.seed), None)
        if known is not None:
            self._outstanding.add(request.number)
        if known is None or not self._results:
            self._at_frontier = True
        return known

    def told(self, request: Request) -> None:
        """`request` has been told."""
        self._outstanding.discard(request.number)

    def inject(self, evolution: Evolution, store: Store) -> None:
        """Passes on the programs put in by hand, at the request at which they were taken up."""
        while self._injections and self._injections[0]["request"] == evolution.next_request:
            self._pass_on(self._injections.popleft(), evolution)
        if self._at_frontier:
            for row in store.injections(used=False):
                if row["id"] not in self._injected:
                    self._pass_on(row, evolution)

    def _pass_on(self, row: sqlite3.Row, evolution: Evolution) -> None:
        self._injected.add(row["id"])
        evolution.inject(row["id"], parse(row["source"]))
