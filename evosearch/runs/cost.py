"""Cost of a search in trainings and weight updates, computed from its measurements.

The cost includes every training that the search requested: first and repeated measurements, tests
of champions, confirmations, and one training of the baseline for each task and seed. The cost
excludes the tuning of the baseline, which is the same for every search on the same tasks, and
validation, which does not influence the search. A weight update is one step of one weight: a
training costs its number of steps times the number of the task's weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from evosearch.runs.rows import MeasurementRow


@dataclass(frozen=True)
class Cost:
    """Number of trainings, and number of weight updates in these trainings."""

    trainings: int = 0
    updates: int = 0


class Unit(StrEnum):
    """Unit of cost."""

    UPDATES = "updates"
    TRAININGS = "trainings"

    @property
    def words(self) -> str:
        """Name of the unit in text, in the plural."""
        return {"updates": "weight updates", "trainings": "trainings"}[self]

    def of(self, cost: Cost) -> int:
        """Return a cost as a number in this unit."""
        return cost.updates if self is Unit.UPDATES else cost.trainings


def running_cost(rows: Iterable[MeasurementRow], weights: Mapping[str, int]) -> dict[int, Cost]:
    """Return the cumulative cost after each request, by the request's number.

    Args:
        rows: Measurements, ordered by request.
        weights: Number of weights of each task.
    """
    rows = list(rows)
    baseline_steps: dict[tuple[str, str, int], int] = {}
    for row in rows:
        key = row.task, row.stream, row.seed
        baseline_steps[key] = max(row.steps, baseline_steps.get(key, 0))
    trainings = updates = 0
    costs: dict[int, Cost] = {}
    for request, request_rows in groupby(rows, lambda row: row.request):
        for row in request_rows:
            # The first row of a task and seed also counts the training of the baseline.
            steps = baseline_steps.pop((row.task, row.stream, row.seed), None)
            trainings += 1 if steps is None else 2
            updates += (row.steps + (steps or 0)) * weights[row.task]
        costs[request] = Cost(trainings, updates)
    return costs
