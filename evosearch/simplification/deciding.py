"""When a cost is small enough: seeds are added until that is decided, and noise never decides it.

A candidate is looked at after 32, 64, 128 and 256 seeds, paired with the original program. A task
is settled at the look at which the one-sided upper bound of its mean cost (Student's t over seeds)
is below the limit, at error rate 0.05 / 4, and takes no more seeds; the candidate is taken once all
tasks are. So one that costs the limit or more on any task is taken with a chance of at most 5% over
all looks (Bonferroni; over tasks nothing is to be shared, since all must be settled). Giving up
early cannot take a candidate that should stay out: it is done where a lower bound is above the
limit, and where the last look would not take it even if the mean came down half-way to the lower
bound. What is undecided at the last look stays out too.

A divergence where the original does not diverge is a refusal, however rare: the mean over few seeds
knows little of rare events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evosearch.statistics import lower_bound

LIMIT = 0.01
"""A cost in log loss that a simpler rule is worth."""
LOOKS = (32, 64, 128, 256)
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
        seeds: how many it took on each task.
        why: of a refusal, in words.
    """

    taken: bool
    seeds: Mapping[str, int]
    why: str = ""


def bounds(costs: Sequence[float] | np.ndarray, looks: int = len(LOOKS)) -> Bounds:
    """One-sided bounds of the mean of `costs`, one for each seed."""
    values = [float(cost) for cost in costs]
    error = ERROR_RATE / looks
    low = lower_bound(values, error)
    high = -lower_bound([-cost for cost in values], error)
    return Bounds(float(np.mean(values)), low, high)


def bounds_over(costs: Sequence[np.ndarray], looks: int = len(LOOKS)) -> Bounds:
    """One-sided bounds of the mean over tasks, of which each may have another number of seeds.

    The tasks' errors are independent; there are as many degrees of freedom as on the task with the
    fewest seeds.
    """
    mean = float(np.mean([row.mean() for row in costs]))
    variance = sum(float(row.var(ddof=1)) / len(row) for row in costs) / len(costs) ** 2
    least = min(len(row) for row in costs)
    half = float(stats.t.ppf(1 - ERROR_RATE / looks, least - 1)) * math.sqrt(variance)
    return Bounds(mean, mean - half, mean + half)


def decide(
    costs: Callable[[int, Sequence[str]], tuple[np.ndarray, bool]],
    tasks: Sequence[str],
    *,
    limit: float = LIMIT,
    looks: Sequence[int] = LOOKS,
) -> Decision:
    """Adds seeds until it is decided whether the mean cost is below `limit` on every task.

    Args:
        costs: gives the costs on the first so many seeds of some tasks, [tasks, seeds], and
            whether the candidate diverged there where the original did not.
        tasks: all of them.
        limit: in log loss.
        looks: how many seeds there are at each look.
    """
    seeds: dict[str, int] = {}
    unsettled = list(tasks)
    for count in looks:
        seeds |= dict.fromkeys(unsettled, count)
        found, diverged = costs(count, unsettled)
        if diverged:
            return Decision(False, seeds, "diverges where the original does not")
        held = {task: bounds(row, len(looks)) for task, row in zip(unsettled, found, strict=True)}
        if any(one.low > limit for one in held.values()):
            return Decision(False, seeds, f"costs more than {limit:g}")
        unsettled = [task for task, one in held.items() if one.high >= limit]
        if not unsettled:
            return Decision(True, seeds)
        if any(_hoped_for(held[task], count / looks[-1]) > limit for task in unsettled):
            break
    return Decision(False, seeds, f"not shown to cost less than {limit:g}")


def _hoped_for(now: Bounds, share: float) -> float:
    """The upper bound at the last look, where `share` of its seeds are measured; optimistic."""
    return (now.mean + now.low) / 2 + (now.high - now.mean) * math.sqrt(share)
