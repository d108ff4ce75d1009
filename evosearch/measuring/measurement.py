"""Measurements: the loss of a training with the baseline's loss on the same task and seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evosearch.statistics import LARGEST_SCORE, score


class Engine(StrEnum):
    """How updates are computed; stored with every measurement."""

    INTERPRETER = "interpreter"
    COMPILED = "compiled"
    BATCHED = "batched"


class Failure(StrEnum):
    """Why a training has no result; stored in place of the engine."""

    CRASHED = "crashed"
    """The worker process died at every attempt."""
    TIMEOUT = "timeout"
    """The training exceeded its time limit, and the worker process was ended."""


@dataclass(frozen=True)
class Measurement:
    """A measurement of one program on one task and seed.

    Attributes:
        loss: final loss of the program; +inf if it diverged or failed.
        baseline: final loss of the baseline on the same task and seed.
        steps: number of steps of the training; fewer than the budget if the training was stopped.
        schedule: name of the learning rate schedule.
        engine: how updates were computed, or why there is no result.
        stopped: whether the hurdle stopped the training.
    """

    loss: float
    baseline: float
    steps: int
    schedule: str
    engine: Engine | Failure
    stopped: bool = False

    @property
    def score(self) -> float:
        """`log(baseline / loss)`, clipped to +-log 4; -log 4 if diverged or stopped."""
        return -LARGEST_SCORE if self.stopped else score(self.loss, self.baseline)
