"""Seeds, by what they are for, and under which conditions each trains.

A search on one horizon and one schedule learns that horizon and that schedule. So the conditions go
round with the seeds, differently on each task, and what wins under only some of them does not win.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Stream(StrEnum):
    """What a seed is for; no two streams share a seed."""

    TUNE = "tune"
    SEARCH = "search"
    TEST = "test"
    CONFIRM = "confirm"
    VALIDATE_TUNE = "validate-tune"
    VALIDATE = "validate"
    EVAL_TUNE = "eval-tune"
    EVAL = "eval"
    AUDIT = "audit"
    SIMPLIFY_TUNE = "simplify-tune"
    SIMPLIFY_SCREEN = "simplify-screen"
    SIMPLIFY = "simplify"
    SIMPLIFY_CONFIRM = "simplify-confirm"


class Seed(NamedTuple):
    """A seed, by its stream and its number there."""

    stream: Stream
    number: int


@dataclass(frozen=True)
class Conditions:
    """How a seed trains, whatever the program.

    Attributes:
        steps: how many.
        schedule: a name in `proxies.SCHEDULES`.
        decay: weight decay outside the program: without updates the training would shrink all
            weights by about exp(-decay), spread over the steps as the schedule is. Unlike a decay
            per step it means the same at any budget and learning rate.
    """

    steps: int
    schedule: str = "cosine"
    decay: float = 0.0


@dataclass(frozen=True)
class Rounds:
    """Conditions by seed.

    Attributes:
        budgets: factors on a task's own steps; consecutive seeds go through all of them.
        schedules: names in `proxies.SCHEDULES`, likewise.
    """

    budgets: tuple[float, ...] = (1.0,)
    schedules: tuple[str, ...] = ("cosine",)

    @property
    def longest(self) -> float:
        """The largest factor on a task's own steps."""
        return max(self.budgets)

    def of(self, seed: Seed, place: int, steps: int) -> Conditions:
        """The conditions of `seed` on a task of so many steps.

        Its `place` in the search's list shifts the round, so that a seed is not long, or short, on
        every task at once.
        """
        turn = seed.number + place
        factor = self.budgets[turn % len(self.budgets)]
        return Conditions(max(1, round(steps * factor)), self.schedules[turn % len(self.schedules)])
