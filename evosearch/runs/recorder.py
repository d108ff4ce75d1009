"""Writing the progress of a search to its store."""

from __future__ import annotations

from collections.abc import Mapping

from evosearch.evolution.evolution import Evolution, Request
from evosearch.measuring.measurement import Measurement
from evosearch.runs.replay import ReplayResult
from evosearch.runs.rows import CHAMPIONS, PROGRAMS, REJECTS, TESTS
from evosearch.runs.store import Store


class Recorder:
    """Writes what a search decides after a replay to the run's store; the caller commits.

    Args:
        store: The run's store, opened to search.
        replayed: The search at the end of its record.
    """

    def __init__(self, store: Store, replayed: ReplayResult):
        self._store = store
        self._evolution = replayed.evolution
        self._has_unused_measurements = bool(replayed.unused_measurements)
        self._stored_tests = len(self._evolution.tests)
        self._results: list[tuple[Request, Mapping[str, Measurement]]] = []
        # The initial champion is only stored with the first measurement.
        has_measurements = self._evolution.counts.measurements > 0
        self._stored_champions = len(self._evolution.champions) if has_measurements else 0
        if replayed.set_aside_from is not None:
            store.set_aside(replayed.set_aside_from, self._stored_tests, self._stored_champions)
            for test in self._evolution.tests:
                store.add_test(test)  # an open test may have been stored with a verdict
            last_progress = store.progress_or_guess()
            self.write(last_progress.elapsed_seconds, None)

    def add(self, request: Request, measurements: Mapping[str, Measurement]) -> None:
        """Add the measurements of a request to what `write` writes.

        Args:
            request: The request, whose results evolution has received.
            measurements: The request's measurements, by task.
        """
        self._results.append((request, measurements))
        if self._has_unused_measurements:
            self._store.remove_spare(request.record.key, request.seed)

    def write(self, elapsed: float, reason: str | None) -> None:
        """Write added measurements, everything that follows from them, and the search's counts.

        Args:
            elapsed: Seconds spent by all processes of the search.
            reason: Why the search ended; None if it has not ended.
        """
        store, evolution = self._store, self._evolution
        store.add_births(evolution.births)
        evolution.births.clear()
        store.add_measurements(self._results)
        self._results.clear()
        # The measurements may have decided the last stored test.
        for test in evolution.tests[max(0, self._stored_tests - 1) :]:
            store.add_test(test)
        self._stored_tests = len(evolution.tests)
        if evolution.counts.measurements:
            for number in range(self._stored_champions, len(evolution.champions)):
                store.add_champion(number, evolution.champions[number])
            self._stored_champions = len(evolution.champions)
        store.set_progress(evolution, elapsed, reason)


def write_derived(store: Store, evolution: Evolution) -> None:
    """Replace everything that follows from measurements: programs, tests, champions and counts.

    Args:
        store: The run's store, opened to search; the caller commits.
        evolution: The evolution after a replay with `derive=True`, which has all births.
    """
    last_progress = store.progress_or_guess()
    for table in (PROGRAMS, REJECTS, TESTS, CHAMPIONS):
        store.clear(table)
    store.add_births(evolution.births)
    for test in evolution.tests:
        store.add_test(test)
    if evolution.counts.measurements:
        for number, champion in enumerate(evolution.champions):
            store.add_champion(number, champion)
    store.set_progress(evolution, last_progress.elapsed_seconds, last_progress.stop_reason)
