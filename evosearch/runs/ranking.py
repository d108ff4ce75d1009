"""Fitness of all measured programs of a run, from its measurements alone: nothing is parsed."""

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


@dataclass(frozen=True)
class Candidate:
    """A measured program, of which no more is known than its measurements.

    Attributes:
        id: the program's.
        fitness: mean over seeds and its 95% interval.
        scores: for each seed that the fitness is from, the score on every task.
        confirmed: whether these seeds decided nothing.
        measurements: trainings of the program, for whatever purpose.
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
            task: float(np.mean([of_seed[task] for of_seed in self.scores]))
            for task in sorted(self.scores[0])
        }
        return Estimate(fitness=self.fitness, per_task=per_task, seeds=len(self.scores))


@dataclass
class _Measured:
    """What was measured of the programs with one semantic key."""

    program: int = 0
    scores: dict[Seed, dict[str, float]] = field(default_factory=dict)


def candidates(
    rows: Iterable[MeasurementRow], config: Config, *, with_skipped: bool = False
) -> list[Candidate]:
    """The programs that were measured, one for each semantic key, in the order of `rows`.

    Args:
        rows: measurements, the earliest first.
        config: the run's configuration.
        with_skipped: also programs that were not trained on every task, since they missed the
            hurdle or lost the race; a task that was skipped has the worst score.

    Raises:
        ValueError: there is no such stream of seeds.
    """
    found = []
    for one in _by_key(rows).values():
        used = reported_scores(one.scores)
        skipped = any(len(scores) < len(config.tasks) for scores in used)
        if used and (with_skipped or not skipped):
            found.append(_candidate(one, used, config))
    return found


def _by_key(rows: Iterable[MeasurementRow]) -> dict[str, _Measured]:
    found: dict[str, _Measured] = {}
    for row in rows:
        one = found.setdefault(row.key, _Measured())
        one.program = row.program
        try:
            seed = Seed(_STREAMS[row.stream], row.seed)
        except KeyError:
            raise ValueError(f"a stream of seeds named {row.stream!r}") from None
        scores = one.scores.setdefault(seed, {})
        if not row.stopped:
            scores[row.task] = row.score
    return found


def _candidate(one: _Measured, used: Sequence[Mapping[str, float]], config: Config) -> Candidate:
    limits = config.measurement
    scores: list[Mapping[str, float]] = [
        {task: of_seed.get(task, -LARGEST_SCORE) for task in config.tasks} for of_seed in used
    ]
    return Candidate(
        one.program,
        fitness(scores, limits.noise_floor, limits.largest_gain),
        scores,
        is_confirmed(one.scores),
        sum(map(len, one.scores.values())),
    )


def pareto_front(
    found: Iterable[Candidate], statements: Mapping[int, int], memory: Callable[[int], float]
) -> list[Candidate]:
    """Candidates that no other beats in fitness (lower bound), statements and memory alike.

    Args:
        found: the candidates; of equal ones the first is kept.
        statements: number of live statements, by program.
        memory: state memory of a program; asked only where it decides, since it takes parsing.
    """
    front: list[Candidate] = []

    def least_memory(count: int) -> float:
        """Of what is at least as fit, with no more than `count` statements."""
        own = [memory(one.id) for one in front if statements[one.id] <= count]
        return min(own, default=float("inf"))

    def place(one: Candidate) -> tuple[float, int]:
        return -one.fitness.low, statements[one.id]

    for (_, count), equal in groupby(sorted(found, key=place), key=place):
        if (least := least_memory(count)) > 0:
            smallest = min(equal, key=lambda one: memory(one.id))
            if memory(smallest.id) < least:
                front.append(smallest)
    return front
