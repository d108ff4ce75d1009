"""Watching a search: what an observer is told, and when."""

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
    """What an observer may show while the search runs."""

    counts: Counts
    champion: Champion
    tests: int
    trainings: int
    programs: int | None
    """Maximum number of programs; None means unlimited."""
    trainings_limit: int | None
    """Maximum number of trainings; None means unlimited."""
    minutes: float | None
    """Maximum duration of this process's search; None means unlimited."""
    elapsed_seconds: float
    """Since this process started the search."""
    searching_seconds: float
    """The same, without start-up and replay."""
    replayed: int
    """Programs that were generated before this process took over."""
    replayed_trainings: int
    """Trainings that were made before."""
    validated: Sequence[tuple[Champion, float]]
    """Champions in order, each with its fitness on validation tasks."""


class Observer:
    """Whoever watches a run; this one shows nothing, and others override what they show.

    Called from the thread that called `search` or `resume`; but `progress`, and `notice` after the
    search itself, from any thread.
    """

    def phase(self, text: str) -> None:
        """The search has begun something that takes a while."""

    def notice(self, text: str) -> None:
        """Something happened that a person should know of, though the search goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """A result of the search has been committed."""

    def progress(self, text: str, done: int, total: int | None) -> None:
        """How far the funnel or the simplification is."""

    def funnel(self, found: FunnelResult) -> None:
        """The funnel has ended."""

    def step(self, step: Step) -> None:
        """The simplification has taken a step."""

    def simplified(self, found: Simplification) -> None:
        """The simplification has ended."""


class Notifier:
    """What a search has to say: goes to the run's log and to an observer."""

    def __init__(self, journal: Journal, observer: Observer):
        self.journal = journal
        self.observer = observer
        self._notices: deque[str] = deque()

    def phase(self, text: str) -> None:
        """The search has begun something that takes a while."""
        self.journal.event("phase", text=text)
        self.observer.phase(text)

    def notice(self, text: str) -> None:
        """Something that a person should know of; from any thread, passed on by `pass_on`."""
        self._notices.append(text)

    def pass_on(self) -> None:
        """Passes notices on, on the thread that observers are called from."""
        while self._notices:
            text = self._notices.popleft()
            self.journal.event("notice", text=text)
            self.observer.notice(text)

    def stop(self, reason: str) -> None:
        """The search has ended."""
        self.pass_on()
        self.journal.event("stop", reason=reason)
