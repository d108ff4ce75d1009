"""A sequential test of whether the cost of an edit is below a limit.

The candidate, the edited program, is compared with the original program on the same seeds, after
32, 64 and 128 seeds. Each of these comparisons is a look. At a look the candidate is accepted if
the one-sided upper bound of its cost (Student's t over seeds, error rate 0.05 / 3) is below the
limit in the mean over tasks and below three times the limit on each task. So the probability of
accepting a candidate that costs at least the limit, or at least three times the limit on one task,
is at most 5% over all looks (Bonferroni). The number of bounds needs no correction, since all
bounds must be below their limits.

A candidate is rejected early if a lower bound is above its limit, or if the last look would not
accept it even if the mean decreased half-way to the lower bound. Early rejections cannot increase
the probability of a wrong acceptance. A candidate that is undecided at the last look is rejected.

A candidate that diverges on a seed on which the original does not is rejected, because a mean over
few seeds does not reflect rare events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.statistics import lower_bound

LIMIT = 0.01
"""Maximum cost of an accepted candidate: a difference of log losses, in the mean over tasks."""
TASK_LIMIT_FACTOR = 3.0
"""Maximum cost on one task, as a multiple of the limit in the mean over tasks."""
LOOKS = (32, 64, 128)
"""Number of seeds at each look."""
ERROR_RATE = 0.05
"""Probability of accepting a candidate whose cost equals the limit, over all looks."""


@dataclass(frozen=True)
class Bounds:
    """A mean with one-sided lower and upper confidence bounds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Result of a test of a candidate.

    Attributes:
        accepted: Whether the cost was shown to be below the limit.
        seeds: Number of seeds that were used.
        reason: Reason of a rejection.
    """

    accepted: bool
    seeds: int
    reason: str = ""


def bounds(costs: Sequence[float] | np.ndarray, looks: int = len(LOOKS)) -> Bounds:
    """Return one-sided confidence bounds of a mean.

    Args:
        costs: One cost for each seed.
        looks: Number of looks over which `ERROR_RATE` is divided.
    """
    values = [float(cost) for cost in costs]
    error = ERROR_RATE / looks
    low = lower_bound(values, error)
    high = 0.0 - lower_bound([-cost for cost in values], error)  # `0.0 -` avoids -0.0
    return Bounds(float(np.mean(values)), low, high)


def decide(
    costs: Callable[[int], tuple[np.ndarray, bool]],
    *,
    limit: float = LIMIT,
    looks: Sequence[int] = LOOKS,
) -> Decision:
    """Decide whether the cost of a candidate is below a limit, on more seeds at each look.

    Args:
        costs: Function from a number of seeds to the costs, [tasks, seeds], and whether the
            candidate diverged on a task and seed on which the original did not.
        limit: Maximum difference of log losses in the mean over tasks; on a single task
            `TASK_LIMIT_FACTOR` times this limit is allowed.
        looks: Number of seeds at each look.
    """
    for seeds in looks:
        measured_costs, diverged = costs(seeds)
        if diverged:
            return Decision(False, seeds, "diverges where the original does not")
        over_tasks = bounds(measured_costs.mean(axis=0), len(looks))
        per_task = [bounds(task_costs, len(looks)) for task_costs in measured_costs]
        bounds_and_limits = [(over_tasks, limit)]
        bounds_and_limits += [(task_mean, TASK_LIMIT_FACTOR * limit) for task_mean in per_task]
        if all(mean.high < maximum for mean, maximum in bounds_and_limits):
            return Decision(True, seeds)
        if any(mean.low > maximum for mean, maximum in bounds_and_limits):
            return Decision(False, seeds, f"costs more than {limit:g}")
        measured_fraction = seeds / looks[-1]
        is_hopeless = any(
            _optimistic_high(mean, measured_fraction) > maximum
            for mean, maximum in bounds_and_limits
        )
        if is_hopeless:
            break
    return Decision(False, seeds, f"not shown to cost less than {limit:g}")


def _optimistic_high(current: Bounds, measured_fraction: float) -> float:
    """Estimate the upper bound at the last look, if a fraction of its seeds is measured so far.

    The mean is assumed to decrease half-way to the lower bound.
    """
    half_width = (current.high - current.mean) * math.sqrt(measured_fraction)
    return (current.mean + current.low) / 2 + half_width
