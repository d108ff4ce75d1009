"""Results of validation: champions on tasks with 10x the work, relative to the tuned baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evosearch.config import Config, MeasurementConfig
from evosearch.runs.summary import Estimate
from evosearch.statistics import Interval, score, stratified_interval


def counterparts(tasks: Sequence[str], scale: str) -> list[str]:
    """Return the validation tasks that are the search tasks at `scale` times the work.

    Args:
        tasks: Names of search tasks. A task without a counterpart, such as a user task, is left
            out of the result.
        scale: `10x` or `100x`.
    """
    import proxies

    validation_tasks = proxies.names("validation")
    return [f"{task}-{scale}" for task in tasks if f"{task}-{scale}" in validation_tasks]


def counterparts_10x_or_same(tasks: Sequence[str]) -> list[str]:
    """Return the 10x counterpart of each task, or the task itself if it has no counterpart."""
    return [(*counterparts([task], "10x"), task)[0] for task in tasks]


@dataclass(frozen=True)
class Validation:
    """Result of one program on one validation task and seed.

    Attributes:
        task: Name of the validation task.
        seed: Number of the seed.
        lr_multiplier: Tuned multiplier of the program's own learning rate.
        loss: The program's loss; infinite if it diverged.
        baseline_loss: Loss of the tuned baseline on the same seed.
    """

    task: str
    seed: int
    lr_multiplier: float
    loss: float
    baseline_loss: float

    @property
    def score(self) -> float:
        """Log ratio of the baseline's loss to the program's, as in the search."""
        return score(self.loss, self.baseline_loss)


def scores_by_task(validations: Sequence[Validation]) -> dict[str, list[float]]:
    """Return the scores of a program's validations, by task."""
    scores: dict[str, list[float]] = {}
    for validation in validations:
        scores.setdefault(validation.task, []).append(validation.score)
    return scores


def is_complete(validations: Sequence[Validation], config: Config) -> bool:
    """Whether a program was validated on the 10x counterpart of every search task.

    The seeds must be the same on each task, at least two.
    """
    seeds: dict[str, set[int]] = {}
    for validation in validations:
        seeds.setdefault(validation.task, set()).add(validation.seed)
    missing = [task for task in config.tasks if f"{task}-10x" not in seeds]
    if missing and counterparts(missing, "10x"):  # `counterparts` is slow: it imports all tasks
        return False
    seeds_per_task = len(validations) // max(1, len(seeds))
    expected_seeds = set(range(seeds_per_task))
    return seeds_per_task > 1 and all(seeds[task] == expected_seeds for task in seeds)


def validated_fitness(validations: Sequence[Validation], settings: MeasurementConfig) -> Interval:
    """Return the fitness of a program on validation tasks.

    The interval is a 95% confidence interval over seeds, which does not account for the choice of
    tasks. Scores are bounded by `settings.largest_gain`.
    """
    bounded_scores = [
        [min(score, settings.largest_gain) for score in scores]
        for scores in scores_by_task(validations).values()
    ]
    return stratified_interval(bounded_scores, settings.noise_floor)


def validated_estimate(validations: Sequence[Validation], settings: MeasurementConfig) -> Estimate:
    """Return `validated_fitness` with the mean score on each task and the number of seeds."""
    scores = scores_by_task(validations)
    return Estimate(
        fitness=validated_fitness(validations, settings),
        per_task={task: float(np.mean(scores[task])) for task in sorted(scores)},
        seeds=min(map(len, scores.values())),
    )
