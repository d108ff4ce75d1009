"""Records of the scores of programs by seed, and tests of challengers against the champion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from evosearch.fixed import FUTILITY_AFTER, TEST_STAGES
from evosearch.seeds import Seed, Stream
from evosearch.statistics import (
    LARGEST_SCORE,
    Interval,
    bounded_mean,
    interval,
    lower_bound,
    spent_error,
    standard_error,
)
from primitives import Program

Scores = Mapping[Seed, Mapping[str, float]]
"""Scores by seed and task."""


@dataclass(eq=False)
class Record:
    """All scores of the programs with one semantic key.

    Attributes:
        id: number of the first program with this key.
        program: the first program with this key.
        key: the semantic key.
        largest_gain: upper bound on the score of a task in the mean over tasks.
        scores: scores by seed and task.
        pending: seeds on which a measurement has been requested and is not finished.
        measured_at_last_test: number of search seeds at the record's last test against the
            champion; 0 before the first test.
    """

    id: int
    program: Program
    key: str
    largest_gain: float = LARGEST_SCORE
    scores: dict[Seed, dict[str, float]] = field(default_factory=dict)
    pending: set[Seed] = field(default_factory=set)
    measured_at_last_test: int = 0
    _search_scores: list[float] = field(default_factory=list)
    _estimate: tuple[float, float] | None = None  # cached result of `_mean_and_standard_error`
    _task_means: dict[str, float] | None = None  # cached result of `task_means`

    def add(self, seed: Seed, scores: Mapping[str, float]) -> None:
        """Add the scores, by task, of one seed."""
        self.scores[seed] = dict(scores)
        if seed.stream is Stream.SEARCH:
            self._search_scores.append(self.score(seed))
            self._estimate = self._task_means = None

    def score(self, seed: Seed) -> float:
        """Return the mean over tasks of the bounded scores on one seed."""
        return bounded_mean(self.scores[seed], self.largest_gain)

    def search_scores(self) -> list[float]:
        """Return the scores of the search seeds, which selection uses."""
        return self._search_scores

    def task_means(self) -> dict[str, float]:
        """Return the mean bounded score of each task over the search seeds; needs a search seed."""
        if self._task_means is None:
            rows = [scores for seed, scores in self.scores.items() if seed.stream is Stream.SEARCH]
            self._task_means = {
                task: fmean(min(scores[task], self.largest_gain) for scores in rows)
                for task in rows[0]
            }
        return self._task_means

    def cautious_estimate(self, noise_floor: float) -> float:
        """Return the mean of the search scores minus one standard error, which selection uses.

        The result is the worst score if there are no search scores.
        """
        if not self._search_scores:
            return -LARGEST_SCORE
        mean, error = self._mean_and_standard_error(noise_floor)
        return mean - error

    def looks_better_than(self, other: Record, min_shared: int, noise_floor: float) -> bool:
        """Return whether the mean is higher than that of `other` by more than two standard errors.

        The difference is paired if both records have scores on at least `min_shared` equal seeds.
        Otherwise the means of the search scores are compared.
        """
        shared = [seed for seed in self.scores if seed in other.scores]
        if len(shared) >= min_shared:
            differences = [self.score(seed) - other.score(seed) for seed in shared]
            mean = sum(differences) / len(differences)
            return mean > 2 * standard_error(differences, noise_floor)
        mean, error = self._mean_and_standard_error(noise_floor)
        other_mean, other_error = other._mean_and_standard_error(noise_floor)
        return mean - other_mean > 2 * math.hypot(error, other_error)

    def mean(self) -> float:
        """Return the mean of the search scores; the largest score if there are no search scores."""
        return fmean(self._search_scores) if self._search_scores else LARGEST_SCORE

    def _mean_and_standard_error(self, noise_floor: float) -> tuple[float, float]:
        """Return the mean of the search scores and its standard error."""
        if self._estimate is None:
            mean = sum(self._search_scores) / len(self._search_scores)
            self._estimate = mean, standard_error(self._search_scores, noise_floor)
        return self._estimate


@dataclass
class Test:
    """A paired test of a challenger against the champion on seeds that only this test uses.

    The test has up to three stages (`TEST_STAGES`) of 1, 2 and 4 times `stage_size` seeds.

    Attributes:
        number: number of the test in the run, from 1; determines its error rate.
        challenger: record of the challenger.
        defender: record of the champion.
        seeds: seeds of all stages so far, the current stage included.
        stage_size: number of seeds of the first stage.
        difference: mean score difference, challenger minus defender; None before the first pair.
        low: lower confidence bound of the difference at the last finished stage; None before.
        won: whether the challenger won; None while the test is open.
    """

    __test__ = False  # not a pytest class

    number: int
    challenger: Record
    defender: Record
    seeds: tuple[Seed, ...]
    stage_size: int
    difference: float | None = None
    low: float | None = None
    won: bool | None = None

    def decide(self, error_rate: float) -> bool:
        """Update the result from the measured pairs; return whether the test is decided.

        The challenger wins if the lower confidence bound of the mean difference is above 0 at the
        end of a stage. The stages share the test's error rate equally. The challenger loses early
        if it is behind after `FUTILITY_AFTER` pairs; this rule cannot let a worse program win.

        Args:
            error_rate: error rate of the whole run; see `statistics.spent_error`.
        """
        pairs = [
            self.challenger.score(seed) - self.defender.score(seed)
            for seed in self.seeds
            if seed in self.challenger.scores and seed in self.defender.scores
        ]
        if not pairs:
            return False
        self.difference = float(np.mean(pairs))
        if len(pairs) == len(self.seeds):
            self.low = lower_bound(pairs, spent_error(error_rate, self.number) / len(TEST_STAGES))
            if self.low > 0:
                self.won = True
            elif len(pairs) == TEST_STAGES[-1] * self.stage_size:
                self.won = False
        if self.won is None and len(pairs) >= FUTILITY_AFTER and self.difference <= 0:
            self.won = False
        return self.won is not None

    @property
    def missing_seeds(self) -> int:
        """Number of seeds to request for the next stage; 0 until the current stage is measured."""
        measured = sum(
            seed in self.challenger.scores and seed in self.defender.scores for seed in self.seeds
        )
        if self.won is not None or measured < len(self.seeds):
            return 0
        sizes = (factor * self.stage_size for factor in TEST_STAGES)
        return next(size for size in sizes if size > measured) - measured


@dataclass(frozen=True)
class Champion:
    """A champion.

    Attributes:
        record: record of the program.
        test: the test that the champion won; None for the initial program, and for a program that
            is champion again because a later champion diverged.
        confirming_seeds: fresh seeds on which the champion is confirmed.
    """

    record: Record
    test: Test | None = None
    confirming_seeds: tuple[Seed, ...] = ()


def reported_scores(scores: Scores) -> list[Mapping[str, float]]:
    """Return the scores, by task, of the seeds from which a program's fitness is reported.

    The fitness of a confirmed program is reported from confirming seeds. The fitness of other
    programs is reported from search seeds, whose mean is biased upwards by selection.
    """
    stream = Stream.CONFIRM if is_confirmed(scores) else Stream.SEARCH
    return [row for seed, row in scores.items() if seed.stream is stream]


def is_confirmed(scores: Scores) -> bool:
    """Return whether there are scores on at least two confirming seeds."""
    return sum(seed.stream is Stream.CONFIRM for seed in scores) > 1


def fitness(
    rows: Sequence[Mapping[str, float]], noise_floor: float, largest_gain: float = LARGEST_SCORE
) -> Interval:
    """Return the fitness with its 95% confidence interval over seeds.

    Args:
        rows: scores by task, for each seed.
        noise_floor: minimum standard deviation between seeds.
        largest_gain: upper bound on the score of a task in the mean over tasks.
    """
    return interval([bounded_mean(row, largest_gain) for row in rows], noise_floor)
