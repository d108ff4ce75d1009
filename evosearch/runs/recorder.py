"""Writing a search: what an evolution has come to, request by request."""

from __future__ import annotations

from collections.abc import Mapping

from evosearch.evolution.evolution import Evolution, Request
from evosearch.measuring.measurement import Measurement
from evosearch.runs.replay import Replayed
from evosearch.runs.rows import CHAMPIONS, PROGRAMS, REJECTS, TESTS
from evosearch.runs.store import Store


class Recorder:
    """Writes the events of a replayed search to its store; the caller commits.

    Args:
        store: open to search.
        replayed: the search where its record ends.
    """

    def __init__(self, store: Store, replayed: Replayed):
        self._store = store
        self._evolution = replayed.evolution
        self._had_spares = bool(replayed.spares)
        self._tests = len(self._evolution.tests)
        # Before the first measurement not even the initial champion is stored.
        measured = self._evolution.counts.measurements > 0
        self._champions = len(self._evolution.champions) if measured else 0
        if replayed.set_aside_from is not None:
            store.set_aside(replayed.set_aside_from, self._tests, self._champions)
            for test in self._evolution.tests:
                store.add_test(test)  # one that is open again may have a later verdict
            before = store.progress_or_guess()
            self.progress(before.elapsed_seconds, None)

    def write(self, request: Request, found: Mapping[str, Measurement]) -> None:
        """Writes what `request` measured, and what evolution made of it."""
        store, evolution = self._store, self._evolution
        self._write_births()
        store.add_measurements(request, found)
        if self._had_spares:
            store.remove_spare(request.record.key, request.seed)
        for test in evolution.tests[max(0, self._tests - 1) :]:
            store.add_test(test)
        self._tests = len(evolution.tests)
        for number in range(self._champions, len(evolution.champions)):
            store.add_champion(number, evolution.champions[number])
        self._champions = len(evolution.champions)

    def progress(self, elapsed: float, reason: str | None) -> None:
        """Writes programs that wait for their measurement, the counts, and how the search stands.

        Args:
            elapsed: seconds spent, over all processes.
            reason: why the search ended; None while it runs.
        """
        self._write_births()
        self._store.set_progress(self._evolution, elapsed, reason)

    def _write_births(self) -> None:
        self._store.add_births(self._evolution.births)
        self._evolution.births.clear()


def write_derived(store: Store, evolution: Evolution) -> None:
    """Writes anew all that follows from measurements: programs, tests, champions and counts.

    Args:
        store: open to search; the caller commits.
        evolution: replayed with `derive`, so that it has all births.
    """
    before = store.progress_or_guess()
    for table in (PROGRAMS, REJECTS, TESTS, CHAMPIONS):
        store.clear(table)
    store.add_births(evolution.births)
    for test in evolution.tests:
        store.add_test(test)
    if evolution.counts.measurements:
        for number, champion in enumerate(evolution.champions):
            store.add_champion(number, champion)
    store.set_progress(evolution, before.elapsed_seconds, before.stop_reason)
