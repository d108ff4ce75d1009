"""When a cost is small enough: seeds are added until that is decided, and noise never decides it.

A candidate is looked at after 32, 64 and 128 seeds, paired with the original program. At each
look it is taken if the one-sided upper bound of its cost (Student's t over seeds), at error rate
0.05 / 3, is below the limit in the mean over tasks, and below three times that on each task. So a
candidate that costs the limit or more, or three times that on any one task, is taken with a chance
of at most 5% over all looks (Bonferroni; over bounds nothing is to be shared, since all must hold).
Giving up early cannot take a candidate that should stay out: it is done where a lower bound is
above what the upper one has to be below, and where the last look would not take it even if the mean
came down half-way to the lower bound. What is undecided at the last look stays out too.

A divergence where the original does not diverge is a refusal, however rare: the mean over few seeds
knows little of rare events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.statistics import lower_bound

LIMIT = 0.01
"""A cost in log loss, in the mean over tasks, that a simpler rule is worth."""
WORST = 3.0
"""So many times the limit is what it may cost on one task."""
LOOKS = (32, 64, 128)
"""How many seeds there are at each look; the last is the most that a decision may take."""
ERROR_RATE = 0.05
"""The chance of taking a candidate that costs the limit or more, over all looks."""


@dataclass(frozen=True)
class Bounds:
    """A mean with one-sided bounds, each at `ERROR_RATE` over so many looks."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Whether a candidate is taken.

    Attributes:
        taken: its cost is surely below the limit.
        seeds: how many it took.
        why: of a refusal, in words.
    """

    taken: bool
    seeds: int
    why: str = ""


def bounds(costs: Sequence[float] | np.ndarray, looks: int = len(LOOKS)) -> Bounds:
    """One-sided bounds of the mean of `costs`, one for each seed."""
    values = [float(cost) for cost in costs]
    error = ERROR_RATE / looks
    low = lower_bound(values, error)
    high = 0.0 - lower_bound([-cost for cost in values], error)  # never -0.0
    return Bounds(float(np.mean(values)), low, high)


def decide(
    costs: Callable[[int], tuple[np.ndarray, bool]],
    *,
    limit: float = LIMIT,
    looks: Sequence[int] = LOOKS,
) -> Decision:
    """Adds seeds until it is decided whether the cost is below `limit`, and nowhere far above.

    Args:
        costs: gives the costs on the first so many seeds, [tasks, seeds], and whether the candidate
            diverged where the original did not.
        limit: in log loss, in the mean over tasks; on one task it is `WORST` times that.
        looks: how many seeds there are at each look.
    """
    for seeds in looks:
        found, diverged = costs(seeds)
        if diverged:
            return Decision(False, seeds, "diverges where the original does not")
        held = [(bounds(found.mean(axis=0), len(looks)), limit)]
        held += [(bounds(row, len(looks)), WORST * limit) for row in found]
        if all(one.high < most for one, most in held):
            return Decision(True, seeds)
        if any(one.low > most for one, most in held):
            return Decision(False, seeds, f"costs more than {limit:g}")
        if any(_hoped_for(one, seeds / looks[-1]) > most for one, most in held):
            break
    return Decision(False, seeds, f"not shown to cost less than {limit:g}")


def _hoped_for(now: Bounds, share: float) -> float:
    """The upper bound at the last look, where `share` of its seeds are measured; optimistic."""
    return (now.mean + now.low) / 2 + (now.high - now.mean) * math.sqrt(share)
