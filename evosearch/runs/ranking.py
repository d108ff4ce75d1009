"""Ranking of a run's programs by fitness, which is computed without parsing the programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from evosearch.config import Config
from evosearch.evolution.records import fitness, is_confirmed, reported_scores
from evosearch.runs.rows import MeasurementRow
from evosearch.runs.summary import Estimate
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE, Interval

_STREAMS = {str(stream): stream for stream in Stream}
"""Streams of seeds by name."""


@dataclass(frozen=True)
class Candidate:
    """A measured program, represented by its id and measurements only.

    Attributes:
        id: The program's id.
        fitness: Mean score over tasks and seeds, and its 95% confidence interval.
        scores: The score on every task, for each seed of the fitness.
        confirmed: Whether the fitness is from seeds that did not influence the search.
        measurements: Number of trainings of the program on all tasks and seeds.
    """

    id: int
    fitness: Interval
    scores: Sequence[Mapping[str, float]]
    confirmed: bool
    measurements: int

    @property
    def estimate(self) -> Estimate:
        """The fitness, with the mean score on each task."""
        per_task = {
            task: float(np.mean([seed_scores[task] for seed_scores in self.scores]))
            for task in sorted(self.scores[0])
        }
        return Estimate(fitness=self.fitness, per_task=per_task, seeds=len(self.scores))


@dataclass
class _KeyScores:
    """Scores of the programs with one semantic key, which compute the same updates.

    Attributes:
        program: Id of the first program with the key.
        scores: The score by seed and task.
    """

    program: int = 0
    scores: dict[Seed, dict[str, float]] = field(default_factory=dict)


def candidates(
    rows: Iterable[MeasurementRow], config: Config, *, include_incomplete: bool = False
) -> list[Candidate]:
    """Return the measured programs, one for each semantic key, in the order of `rows`.

    Args:
        rows: Measurements, the earliest first.
        config: The run's configuration.
        include_incomplete: Whether to include programs that were not trained on every task because
            of the hurdle or the race. Skipped tasks have the worst score.

    Raises:
        ValueError: A row names an unknown stream of seeds.
    """
    result = []
    for key_scores in _scores_by_key(rows).values():
        scores_of_seeds = reported_scores(key_scores.scores)
        has_skipped_tasks = any(len(scores) < len(config.tasks) for scores in scores_of_seeds)
        if scores_of_seeds and (include_incomplete or not has_skipped_tasks):
            result.append(_candidate(key_scores, scores_of_seeds, config))
    return result


def _scores_by_key(rows: Iterable[MeasurementRow]) -> dict[str, _KeyScores]:
    """Return the scores of the measured programs, by semantic key."""
    result: dict[str, _KeyScores] = {}
    for row in rows:
        key_scores = result.setdefault(row.key, _KeyScores())
        key_scores.program = row.program
        try:
            seed = Seed(_STREAMS[row.stream], row.seed)
        except KeyError:
            raise ValueError(f"a stream of seeds named {row.stream!r}") from None
        scores = key_scores.scores.setdefault(seed, {})
        if not row.stopped:
            scores[row.task] = row.score
    return result


def _candidate(
    key_scores: _KeyScores, scores_of_seeds: Sequence[Mapping[str, float]], config: Config
) -> Candidate:
    """Return the candidate with the scores of its fitness; skipped tasks have the worst score."""
    settings = config.measurement
    complete_scores: list[Mapping[str, float]] = [
        {task: scores.get(task, -LARGEST_SCORE) for task in config.tasks}
        for scores in scores_of_seeds
    ]
    return Candidate(
        key_scores.program,
        fitness(complete_scores, settings.noise_floor, settings.largest_gain),
        complete_scores,
        is_confirmed(key_scores.scores),
        sum(map(len, key_scores.scores.values())),
    )


def pareto_front(
    programs: Iterable[Candidate], statements: Mapping[int, int], memory: Callable[[int], float]
) -> list[Candidate]:
    """Return the Pareto front in fitness (lower bound), number of statements and state memory.

    Args:
        programs: The measured programs; of programs that are equal in all three criteria, only the
            first is in the front.
        statements: Number of live statements, by program id.
        memory: Function from a program id to its state memory. The function parses the program, so
            it is called only where the other two criteria do not decide.
    """
    front: list[Candidate] = []

    def least_memory(count: int) -> float:
        """Return the least memory of a program in `front` with at most `count` statements."""
        values = [memory(member.id) for member in front if statements[member.id] <= count]
        return min(values, default=float("inf"))

    def sort_key(program: Candidate) -> tuple[float, int]:
        return -program.fitness.low, statements[program.id]

    for (_, count), group in groupby(sorted(programs, key=sort_key), key=sort_key):
        if (least := least_memory(count)) > 0:
            best = min(group, key=lambda program: memory(program.id))
            if memory(best.id) < least:
                front.append(best)
    return front
