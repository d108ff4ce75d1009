"""What validation found of programs: champions on 10x the work, beside the tuned baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.config import Config, MeasurementConfig
from evosearch.runs.summary import Estimate
from evosearch.statistics import Interval, score, stratified_interval


def counterparts(tasks: Sequence[str], scale: str) -> list[str]:
    """The validation tasks that are those `tasks` at `scale`, 10x or 100x the work.

    A task without one, as a user's own may be, is left out.
    """
    import proxies

    known = proxies.names("validation")
    return [f"{task}-{scale}" for task in tasks if f"{task}-{scale}" in known]


def ten_times(tasks: Sequence[str]) -> list[str]:
    """Of each task its counterpart of ten times the work; one that has none stands for itself."""
    return [(*counterparts([task], "10x"), task)[0] for task in tasks]


@dataclass(frozen=True)
class Validation:
    """One program on one validation task and seed; it and the baseline each at its best setting."""

    task: str
    seed: int
    lr: float
    loss: float
    baseline: float

    @property
    def score(self) -> float:
        """As in the search."""
        return score(self.loss, self.baseline)


def by_task(found: Sequence[Validation]) -> dict[str, list[float]]:
    """The scores of a program's validation, by task."""
    scores: dict[str, list[float]] = {}
    for one in found:
        scores.setdefault(one.task, []).append(one.score)
    return scores


def is_complete(found: Sequence[Validation], config: Config) -> bool:
    """Whether nothing is missing of a program's validation: of every task the same seeds."""
    seeds: dict[str, set[int]] = {}
    for one in found:
        seeds.setdefault(one.task, set()).add(one.seed)
    missing = [task for task in config.tasks if f"{task}-10x" not in seeds]
    if missing and counterparts(missing, "10x"):  # asked seldom, since it imports every task
        return False
    count = len(found) // max(1, len(seeds))
    return count > 1 and all(own == set(range(count)) for own in seeds.values())


def validated_fitness(found: Sequence[Validation], limits: MeasurementConfig) -> Interval:
    """Mean and 95% interval over seeds of the bounded mean over tasks; tasks are taken as given."""
    bounded = [
        [min(score, limits.largest_gain) for score in scores] for scores in by_task(found).values()
    ]
    return stratified_interval(bounded, limits.noise_floor)


def validated_estimate(found: Sequence[Validation], limits: MeasurementConfig) -> Estimate:
    """`validated_fitness` with its parts."""
    scores = by_task(found)
    return Estimate(
        fitness=validated_fitness(found, limits),
        per_task={task: float(np.mean(scores[task])) for task in sorted(scores)},
        seeds=min(map(len, scores.values())),
    )
