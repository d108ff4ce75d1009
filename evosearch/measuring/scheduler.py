"""The scheduler of batches that share devices: it decides which batch advances next."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

FULL = 0.9
"""Fraction of a batch's lanes from which on the batch counts as full."""
_MAX_STARTED = 3
"""Number of batches that have started to advance: one runs, one is next, one is being read."""
_IDLE_SECONDS = 1.0
"""Seconds without work after which the scheduler's thread ends."""


class Schedulable(Protocol):
    """A batch of trainings, as the scheduler sees it."""

    @property
    def fill(self) -> float:
        """Fraction of the lanes that have a training, or get one at the next start; 0 if none."""
        ...

    def start(self) -> bool:
        """Load waiting trainings and begin to advance; return False if that failed."""
        ...

    def collect(self) -> None:
        """Wait until the lanes have advanced, and pass on the results of finished trainings."""
        ...

    def cancel(self) -> None:
        """Give up all trainings."""
        ...


class Scheduler:
    """Advances batches on its own thread, a few steps of one batch at a time.

    A device executes one batch at a time, and a step takes as long with one training as with all
    lanes full. So a batch that is not full waits while others run, and full batches take turns.
    While the devices execute a batch, the thread loads the next one. Safe to use from several
    threads.
    """

    def __init__(self) -> None:
        self._batches: list[Schedulable] = []
        self._last_start: dict[int, int] = {}
        self._starts = 0
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def add(self, batch: Schedulable) -> None:
        """Add a batch, which advances from then on whenever it has trainings."""
        with self._condition:
            self._batches.append(batch)

    def wake(self) -> None:
        """Continue after a training was submitted to a batch."""
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
                self._thread.start()
            else:
                self._condition.notify()

    def close(self, *, wait: bool = True) -> None:
        """Give up all trainings; if `wait`, wait until the devices have stopped."""
        with self._condition:
            self._is_closed = True
            thread = self._thread
        self.wake()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        started: deque[Schedulable] = deque()
        while not self._is_closed:
            batch = self._next(started)
            if batch is not None:
                if batch.start():
                    started.append(batch)
            elif started:
                started.popleft().collect()
            elif not self._wait_for_work():
                return
        for batch in started:
            batch.collect()
        with self._condition:
            self._thread = None
            batches = list(self._batches)
        for batch in batches:
            batch.cancel()

    def _next(self, started: deque[Schedulable]) -> Schedulable | None:
        """Return the batch to start: a full one in turn, or the fullest if no batch has started."""
        if len(started) >= _MAX_STARTED:
            return None
        with self._condition:
            waiting = [batch for batch in self._batches if batch not in started and batch.fill]
        if not waiting:
            return None
        batch = max(waiting, key=self._priority)
        if started and batch.fill < FULL:
            return None
        self._starts += 1
        self._last_start[id(batch)] = self._starts
        return batch

    def _priority(self, batch: Schedulable) -> tuple[float, int]:
        return min(batch.fill, FULL), -self._last_start.get(id(batch), 0)

    def _wait_for_work(self) -> bool:
        """Wait until a batch has trainings; False if the thread ends because none came."""
        with self._condition:
            has_work = self._condition.wait_for(self._has_work, _IDLE_SECONDS)
            if not has_work:
                self._thread = None
            return has_work

    def _has_work(self) -> bool:
        return self._is_closed or any(batch.fill for batch in self._batches)
