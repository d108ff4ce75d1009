"""Watching a search: what an observer is told, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evosearch.evolution.evolution import Counts
from evosearch.evolution.records import Champion


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


class Observer(Protocol):
    """Whoever watches a search; called from the searching thread."""

    def phase(self, text: str) -> None:
        """The search has begun something that takes a while."""

    def notice(self, text: str) -> None:
        """Something happened that a person should know of, though the search goes on."""

    def update(self, snapshot: Snapshot) -> None:
        """A result has been committed."""


class Silent:
    """An observer that shows nothing."""

    def phase(self, text: str) -> None:
        """Nobody watches."""

    def notice(self, text: str) -> None:
        """Nobody watches."""

    def update(self, snapshot: Snapshot) -> None:
        """Nobody watches."""
