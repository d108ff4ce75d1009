"""Results of validation: champions on tasks with 10x the work, relative to the tuned baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.config import Config, MeasurementConfig
from evosearch.runs.summary import Estimate
from evosearch.statistics import Interval, score, stratified_interval


def counterparts(tasks: Sequence[str], scale: str) -> list[str]:
    """Return the validation tasks with more work that correspond to search tasks.

    Args:
        tasks: Names of search tasks. Tasks without a counterpart, such as user tasks, are left out.
        scale: `10x` or `100x`.
    """
    import proxies

    validation_tasks = proxies.names("validation")
    return [f"{task}-{scale}" for task in tasks if f"{task}-{scale}" in validation_tasks]


def counterparts_10x_or_same(tasks: Sequence[str]) -> list[str]:
    """Return for each task its 10x counterpart, or the task itself if there is none."""
    return [(*counterparts([task], "10x"), task)[0] for task in tasks]


@dataclass(frozen=True)
class Validation:
    """Result of one program on one validation task and seed.

    Attributes:
        task: Name of the validation task.
        seed: Number of the seed.
        lr: The program's tuned factor on its learning rate.
        loss: The program's loss; infinite if it diverged.
        baseline: Loss of the tuned baseline on the same seed.
    """

    task: str
    seed: int
    lr: float
    loss: float
    baseline: float

    @property
    def score(self) -> float:
        """Log ratio of the baseline's loss to the program's, as in the search."""
        return score(self.loss, self.baseline)


def by_task(validations: Sequence[Validation]) -> dict[str, list[float]]:
    """Return the scores of a program's validations, by task."""
    scores: dict[str, list[float]] = {}
    for validation in validations:
        scores.setdefault(validation.task, []).append(validation.score)
    return scores


def is_complete(validations: Sequence[Validation], config: Config) -> bool:
    """Whether a program has validations on every task and the same two or more seeds on each."""
    seeds: dict[str, set[int]] = {}
    for validation in validations:
        seeds.setdefault(validation.task, set()).add(validation.seed)
    missing = [task for task in config.tasks if f"{task}-10x" not in seeds]
    if missing and counterparts(missing, "10x"):  # `counterparts` is slow: it imports all tasks
        return False
    count = len(validations) // max(1, len(seeds))
    return count > 1 and all(task_seeds == set(range(count)) for task_seeds in seeds.values())


def validated_fitness(validations: Sequence[Validation], limits: MeasurementConfig) -> Interval:
    """Return the fitness of a program on validation tasks, with its 95% interval over seeds.

    Scores are bounded by `limits.largest_gain`. The interval does not account for the choice of
    tasks.
    """
    bounded_scores = [
        [min(score, limits.largest_gain) for score in scores]
        for scores in by_task(validations).values()
    ]
    return stratified_interval(bounded_scores, limits.noise_floor)


def validated_estimate(validations: Sequence[Validation], limits: MeasurementConfig) -> Estimate:
    """Return `validated_fitness` with the mean score on each task and the number of seeds."""
    scores = by_task(validations)
    return Estimate(
        fitness=validated_fitness(validations, limits),
        per_task={task: float(np.mean(scores[task])) for task in sorted(scores)},
        seeds=min(map(len, scores.values())),
    )
