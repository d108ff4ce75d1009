"""What is known about programs: their scores by seed, and the tests between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
"""By seed, the score on each task."""


@dataclass(eq=False)
class Record:
    """All that was measured of the programs with one semantic key.

    Attributes:
        id: the number of the first program with this key.
        program: that program.
        key: the semantic key.
        largest_gain: what a single task may add to a seed's score, times the number of tasks.
        scores: for each seed the score of each task.
        asked: seeds that a measurement is under way on.
        measured_at_last_test: search seeds it had when it last challenged the champion.
    """

    id: int
    program: Program
    key: str
    largest_gain: float = LARGEST_SCORE
    scores: dict[Seed, dict[str, float]] = field(default_factory=dict)
    asked: set[Seed] = field(default_factory=set)
    measured_at_last_test: int = 0
    _search: list[float] = field(default_factory=list)
    _estimate: tuple[float, float] | None = None  # of the search scores, until the next one

    def add(self, seed: Seed, scores: Mapping[str, float]) -> None:
        """Takes the scores, by task, of one seed."""
        self.scores[seed] = dict(scores)
        if seed.stream is Stream.SEARCH:
            self._search.append(self.score(seed))
            self._estimate = None

    def score(self, seed: Seed) -> float:
        """The bounded mean over tasks on one seed."""
        return bounded_mean(self.scores[seed], self.largest_gain)

    def search_scores(self) -> list[float]:
        """The scores of the seeds that selection goes by."""
        return self._search

    def task_means(self) -> dict[str, float]:
        """By task, the mean bounded score on the seeds that selection goes by; there is one."""
        found = [scores for seed, scores in self.scores.items() if seed.stream is Stream.SEARCH]
        return {
            task: fmean(min(scores[task], self.largest_gain) for scores in found)
            for task in found[0]
        }

    def cautious_estimate(self, noise_floor: float) -> float:
        """The mean minus one standard error, which selection goes by; the worst if unmeasured."""
        if not self._search:
            return -LARGEST_SCORE
        mean, error = self._estimated(noise_floor)
        return mean - error

    def promises_more_than(self, other: Record, least_seeds: int, noise_floor: float) -> bool:
        """Whether this looks better by two standard errors of the difference.

        Paired where at least `least_seeds` are shared, else by the search scores of each.
        """
        shared = [seed for seed in self.scores if seed in other.scores]
        if len(shared) >= least_seeds:
            ahead = [self.score(seed) - other.score(seed) for seed in shared]
            return sum(ahead) / len(ahead) > 2 * standard_error(ahead, noise_floor)
        mean, error = self._estimated(noise_floor)
        others_mean, others_error = other._estimated(noise_floor)
        return mean - others_mean > 2 * math.hypot(error, others_error)

    def mean(self) -> float:
        """Of the scores that selection goes by; the largest score if there are none."""
        return fmean(self._search) if self._search else LARGEST_SCORE

    def _estimated(self, noise_floor: float) -> tuple[float, float]:
        if self._estimate is None:
            mean = sum(self._search) / len(self._search)
            self._estimate = mean, standard_error(self._search, noise_floor)
        return self._estimate


@dataclass
class Test:
    """A challenger against the champion, paired on fresh seeds, each used for this test only.

    Attributes:
        number: 1, 2, ... over the run; fixes the error rate.
        seeds: those asked for so far, a whole number of stages.
        first: how many seeds the first stage has.
        difference: mean of challenger minus defender so far, once there are pairs.
        low: its lower confidence bound at the error rate of a look, as of the last one.
        won: the verdict; None while open.
    """

    __test__ = False  # not a pytest class

    number: int
    challenger: Record
    defender: Record
    seeds: tuple[Seed, ...]
    first: int
    difference: float | None = None
    low: float | None = None
    won: bool | None = None

    def decide(self, error_rate: float) -> bool:
        """Whether there is a verdict now.

        The stages share the test's error rate. Giving up early on a challenger that is behind
        cannot make a worse program win.
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
            elif len(pairs) == TEST_STAGES[-1] * self.first:
                self.won = False
        if self.won is None and len(pairs) >= FUTILITY_AFTER and self.difference <= 0:
            self.won = False
        return self.won is not None

    @property
    def wants(self) -> int:
        """How many more seeds the next stage takes; 0 while some of this one's are open."""
        measured = sum(
            seed in self.challenger.scores and seed in self.defender.scores for seed in self.seeds
        )
        if self.won is not None or measured < len(self.seeds):
            return 0
        return next(m * self.first for m in TEST_STAGES if m * self.first > measured) - measured


@dataclass(frozen=True)
class Champion:
    """A program that won its test (the initial one has none) and the seeds that confirm it."""

    record: Record
    test: Test | None = None
    confirmed_on: tuple[Seed, ...] = ()


def reported_scores(scores: Scores) -> list[Mapping[str, float]]:
    """The scores, by task, of the seeds that a program's fitness is reported from.

    Seeds that decided nothing, where there are some; else those that selection went by, whose mean
    flatters what was selected.
    """
    used = Stream.CONFIRM if is_confirmed(scores) else Stream.SEARCH
    return [found for seed, found in scores.items() if seed.stream is used]


def is_confirmed(scores: Scores) -> bool:
    """Whether there are seeds that decided nothing, two or more."""
    return sum(seed.stream is Stream.CONFIRM for seed in scores) > 1


def fitness(
    found: list[Mapping[str, float]], noise_floor: float, largest_gain: float = LARGEST_SCORE
) -> Interval:
    """Mean and 95% interval over seeds of the bounded mean over tasks."""
    return interval([bounded_mean(one, largest_gain) for one in found], noise_floor)
