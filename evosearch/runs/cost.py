"""What a search has cost: trainings and weight updates, as its measurements have it.

Every training that the search asked for counts, whatever for: first measurements, those made
again, tests of champions and confirmations; and the baseline's own, one for each task and seed.
What is the same for every search on the same tasks does not: the tuning of the baseline; nor
validation, which decides nothing. A weight update is one step of one weight, so a training costs
its steps times the task's weights, and one that was stopped only the steps that it made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from evosearch.runs.rows import MeasurementRow


@dataclass(frozen=True)
class Cost:
    """Trainings, and the weight updates that they made."""

    trainings: int = 0
    updates: int = 0


class Unit(StrEnum):
    """What cost is counted in."""

    UPDATES = "updates"
    TRAININGS = "trainings"

    @property
    def words(self) -> str:
        """The unit for people."""
        return {"updates": "weight updates", "trainings": "trainings"}[self]

    def of(self, cost: Cost) -> int:
        """`cost` in this unit."""
        return cost.updates if self is Unit.UPDATES else cost.trainings


def running_cost(rows: Iterable[MeasurementRow], weights: Mapping[str, int]) -> dict[int, Cost]:
    """The cost up to each request and with it, in order.

    Args:
        rows: measurements, by request.
        weights: of each task.
    """
    rows = list(rows)
    baseline_steps: dict[tuple[str, str, int], int] = {}
    for row in rows:
        place = row.task, row.stream, row.seed
        baseline_steps[place] = max(row.steps, baseline_steps.get(place, 0))
    trainings = updates = 0
    after: dict[int, Cost] = {}
    for request, measured in groupby(rows, lambda row: row.request):
        for row in measured:
            steps = baseline_steps.pop((row.task, row.stream, row.seed), None)
            trainings += 1 if steps is None else 2
            updates += (row.steps + (steps or 0)) * weights[row.task]
        after[request] = Cost(trainings, updates)
    return after
