"""Observers, which are notified of a search's progress, and the notifier that calls them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evosearch.evolution.evolution import Counts
from evosearch.evolution.records import Champion
from evosearch.runs.journal import Journal

if TYPE_CHECKING:
    from evosearch.evaluation.funnel import FunnelResult
    from evosearch.simplification.record import Simplification, Step


@dataclass(frozen=True)
class Snapshot:
    """The state of a running search, as observers see it.

    Attributes:
        counts: counts of the search.
        champion: the current champion.
        tests: number of tests of challengers so far.
        trainings: number of trainings so far.
        programs: maximum number of programs; None means unlimited.
        trainings_limit: maximum number of trainings; None means unlimited.
        minutes: maximum duration of this process; None means unlimited.
        elapsed_seconds: duration of this process.
        searching_seconds: duration of this process without start-up and replay.
        replayed: number of programs that earlier processes generated.
        replayed_trainings: number of trainings of earlier processes.
        validated: validated champions in order, each with its fitness on validation tasks.
    """

    counts: Counts
    champion: Champion
    tests: int
    trainings: int
    programs: int | None
    trainings_limit: int | None
    minutes: float | None
    elapsed_seconds: float
    searching_seconds: float
    replayed: int
    replayed_trainings: int
    validated: Sequence[tuple[Champion, float]]


class Observer:
    """An observer of a run. This base class does nothing; subclasses override methods.

    Methods are called on the thread that called `search` or `resume`, with two exceptions:
    `progress` is called on any thread, and after the search phase `notice` is, too.
    """

    def phase(self, text: str) -> None:
        """Handle the start of a phase that takes some time."""

    def notice(self, text: str) -> None:
        """Handle a message for the user, such as a warning; the search goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """Handle the commit of a measurement."""

    def progress(self, text: str, done: int, total: int | None) -> None:
        """Handle progress of the funnel or the simplification: `done` of `total` units."""

    def funnel(self, result: FunnelResult) -> None:
        """Handle the result of the funnel."""

    def step(self, step: Step) -> None:
        """Handle a step of the simplification."""

    def simplified(self, result: Simplification) -> None:
        """Handle the result of the simplification."""


class Notifier:
    """Passes messages of a search to the run's log and to an observer."""

    def __init__(self, journal: Journal, observer: Observer):
        self.journal = journal
        self.observer = observer
        self._notices: deque[str] = deque()

    def phase(self, text: str) -> None:
        """Report the start of a phase that takes some time."""
        self.journal.write_event("phase", text=text)
        self.observer.phase(text)

    def notice(self, text: str) -> None:
        """Queue a message for the user, from any thread; see `deliver`."""
        self._notices.append(text)

    def deliver(self) -> None:
        """Deliver queued messages, on the thread on which observers are called."""
        while self._notices:
            text = self._notices.popleft()
            self.journal.write_event("notice", text=text)
            self.observer.notice(text)

    def stop(self, reason: str) -> None:
        """Deliver queued messages and log the end of the search."""
        self.deliver()
        self.journal.write_event("stop", reason=reason)
