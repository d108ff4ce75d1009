"""Streams of seeds by purpose, and the training conditions of each seed.

A search on a single horizon and schedule overfits to them. So the conditions cycle with the seed
number, with another offset on each task, and a program must be good under all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Stream(StrEnum):
    """Purpose of a seed; seeds of different streams are always different."""

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
    """A seed: its stream and its number within the stream."""

    stream: Stream
    number: int


@dataclass(frozen=True)
class Conditions:
    """Training conditions of a seed, the same for every program.

    Attributes:
        steps: number of steps.
        schedule: name of the learning rate schedule, a key of `proxies.SCHEDULES`.
        decay: decoupled weight decay, applied outside the program. Without updates the whole
            training would shrink all weights by about exp(-decay), spread over the steps like the
            schedule. Unlike a decay per step, it means the same at any number of steps and
            learning rate.
    """

    steps: int
    schedule: str = "cosine"
    decay: float = 0.0


@dataclass(frozen=True)
class Rounds:
    """Cycle of training conditions over consecutive seeds.

    Attributes:
        budgets: factors on a task's number of steps; consecutive seeds cycle through them.
        schedules: names in `proxies.SCHEDULES`; consecutive seeds cycle through them.
    """

    budgets: tuple[float, ...] = (1.0,)
    schedules: tuple[str, ...] = ("cosine",)

    @property
    def longest(self) -> float:
        """Largest factor on a task's number of steps."""
        return max(self.budgets)

    def of(self, seed: Seed, task_index: int, steps: int) -> Conditions:
        """Return the conditions of a seed on one task.

        Args:
            seed: the seed.
            task_index: index of the task in the search's list. It shifts the cycle, so that a seed
                is not long, or short, on all tasks at once.
            steps: the task's number of steps.
        """
        position = seed.number + task_index
        factor = self.budgets[position % len(self.budgets)]
        schedule = self.schedules[position % len(self.schedules)]
        return Conditions(max(1, round(steps * factor)), schedule)
