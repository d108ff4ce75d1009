"""What a search keeps of a training: a loss beside the baseline's, and how it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evosearch.statistics import LARGEST_SCORE, score


class Engine(StrEnum):
    """How a training was run; stored with every measurement."""

    INTERPRETER = "interpreter"
    COMPILED = "compiled"
    BATCHED = "batched"


class Failure(StrEnum):
    """Why a training has no result; stored in place of its engine."""

    CRASHED = "crashed"
    """Its worker process died, at every attempt."""
    TIMEOUT = "timeout"
    """It took longer than its time limit, and its worker process was ended."""


@dataclass(frozen=True)
class Measurement:
    """One program on one task and seed, beside the baseline."""

    loss: float
    baseline: float
    steps: int
    schedule: str
    engine: Engine | Failure
    """How it was trained, or why there is no result."""
    stopped: bool = False
    """Its curve was so far behind the baseline's that the training was ended after `steps`."""

    @property
    def score(self) -> float:
        """log(baseline / loss), clipped to +-log 4; -log 4 if diverged or stopped."""
        return -LARGEST_SCORE if self.stopped else score(self.loss, self.baseline)
