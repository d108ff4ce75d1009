"""Auditing searches: is a champion, on fresh seeds, worth what its run reports of it?

What a run reports of a champion comes from seeds that decided nothing, so it is unbiased
by design. An audit checks the design: it measures the confirmed champions again, under the same
conditions against the same baseline, on seeds of a stream that nothing else uses. Over many
champions the mean of (reported - fresh) is then zero, as far as its 95% interval tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from evosearch.errors import UsageError
from evosearch.evolution.records import fitness
from evosearch.measuring.failures import TrainingError
from evosearch.measuring.job import TaskSetup
from evosearch.measuring.job_runner import JobRunner, open_job_runner
from evosearch.measuring.measurement import Measurement
from evosearch.measuring.scorer import BASELINE, Scorer, scorer_of, setups_of
from evosearch.runs.run import Run
from evosearch.runs.summary import ChampionEntry
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE, Interval
from evosearch.verdicts import bias_interval, side_of
from primitives import zoo

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many trainings are done and how many there will be."""


@dataclass(frozen=True)
class Audited:
    """A champion: what its run reports, and what fresh seeds say.

    Attributes:
        run: the run's directory.
        id: the program's number there.
        reported: mean fitness and 95% interval over the seeds that confirmed it.
        fresh: the same over fresh seeds.
        per_task: the mean score of each task over the fresh seeds.
    """

    run: str
    id: int
    reported: Interval
    fresh: Interval
    per_task: Mapping[str, float]

    @property
    def difference(self) -> float:
        """Reported minus fresh; positive if the report flatters."""
        return self.reported.mean - self.fresh.mean

    @property
    def half_width(self) -> float:
        """Of the reported interval."""
        return (self.reported.high - self.reported.low) / 2


@dataclass(frozen=True)
class Audit:
    """All champions that were audited, on so many fresh seeds each."""

    champions: tuple[Audited, ...]
    seeds: int

    @property
    def mean(self) -> float:
        """The mean of (reported - fresh)."""
        return float(np.mean([one.difference for one in self.champions]))

    @property
    def standard_error(self) -> float | None:
        """Of that mean; None with a single champion."""
        if len(self.champions) < 2:
            return None
        differences = [one.difference for one in self.champions]
        return float(np.std(differences, ddof=1)) / math.sqrt(len(differences))

    @property
    def bias(self) -> Interval | None:
        """That mean and its 95% interval (Student's t); None with a single champion."""
        return bias_interval([one.difference for one in self.champions])

    @property
    def agrees(self) -> bool | None:
        """Whether the interval holds zero, so that no bias is shown; None with one champion."""
        return None if self.bias is None else side_of(self.bias) == 0

    def document(self) -> dict[str, Any]:
        """The audit as JSON."""
        return {
            "seeds": self.seeds,
            "champions": [
                {
                    "run": one.run,
                    "id": one.id,
                    "reported": one.reported._asdict(),
                    "half_width": one.half_width,
                    "fresh": one.fresh._asdict(),
                    "per_task": dict(one.per_task),
                    "difference": one.difference,
                }
                for one in self.champions
            ],
            "mean_difference": self.mean,
            "standard_error": self.standard_error,
            "mean_low": self.bias and self.bias.low,
            "mean_high": self.bias and self.bias.high,
            "agrees": self.agrees,
        }


def audit(
    runs: Sequence[Run],
    *,
    seeds: int = 64,
    workers: int | None = None,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda text, done, total: None,
) -> Audit:
    """Measures every confirmed champion of `runs` again.

    Args:
        runs: finished or not; nothing is written to them.
        seeds: fresh seeds for each champion, other ones for each.
        workers: trainings at a time; None for one per core. The result does not depend on it.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each training that failed; it counts as diverged.
        progress: told how far it is.

    Raises:
        UsageError: fewer than two seeds, or no run has a confirmed champion.
        TrainingError: an exception in a user's task.
    """
    if seeds < 2:
        raise UsageError(f"seeds = {seeds}: use at least 2")
    confirmed = [(run, one) for run in runs for one in _confirmed(run)]
    if not confirmed:
        raise UsageError(
            "no champion to audit: none of the runs has one that won its test and was confirmed; "
            "go on with `evosearch resume RUN`"
        )
    found: list[Audited] = []
    with open_job_runner(workers, timeout=timeout, notify=notify) as runner:
        bench = _Bench(runner, progress, seeds, confirmed)
        try:
            for run, champion in confirmed:
                found.append(bench.audited(run, champion))
        finally:
            bench.close()
    return Audit(tuple(found), seeds)


def _confirmed(run: Run) -> list[ChampionEntry]:
    """The run's champions, each once, that all seeds kept for it have confirmed."""
    enough = run.config.measurement.confirm_seeds
    found = {
        one.id: one
        for one in run.champions()
        if one.number > 0 and one.estimate is not None and one.estimate.seeds >= enough
    }
    return list(found.values())


class _Bench:
    """Where champions are measured; runs on the same tasks share what is compiled."""

    def __init__(
        self,
        runner: JobRunner,
        progress: Progress,
        seeds: int,
        confirmed: Sequence[tuple[Run, ChampionEntry]],
    ):
        self._runner = runner
        # Each follows one seed through the tasks, and waits while that is trained.
        self._threads = ThreadPoolExecutor(runner.backend.capacity)
        self._progress = progress
        self._seeds = seeds
        self._done = 0
        self._planned = sum(self._trainings(run) * seeds for run, _ in confirmed)
        self._prepared: set[TaskSetup] = set()
        self._laboratories: dict[Run, Scorer] = {}

    def close(self) -> None:
        """Gives up what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def audited(self, run: Run, champion: ChampionEntry) -> Audited:
        """`champion` on seeds of its own, so that the differences are independent."""
        assert champion.estimate is not None
        first = champion.number * self._seeds
        scorer = self._scorer(run)
        program = run.program(champion.id)
        futures = [
            self._threads.submit(scorer.measure, program, Seed(Stream.AUDIT, first + n))
            for n in range(self._seeds)
        ]
        name = f"{run.directory}#{champion.id}"
        tasks = run.config.tasks
        scores = []
        for future in futures:
            self._progress(name, self._done, self._planned)
            try:
                scores.append(_scores(future.result(), tasks))
            except TrainingError as error:
                raise error.named(name if error.contender == program else "") from error.__cause__
            self._done += self._trainings(run)
        self._progress(name, self._done, self._planned)
        limits = run.config.measurement
        return Audited(
            run=str(run.directory),
            id=champion.id,
            reported=champion.estimate.fitness,
            fresh=fitness(scores, limits.noise_floor, limits.largest_gain),
            per_task={task: float(np.mean([one[task] for one in scores])) for task in tasks},
        )

    def _scorer(self, run: Run) -> Scorer:
        if run not in self._laboratories:
            setups = setups_of(run.config)
            self._progress("compiling", self._done, self._planned)
            list(self._threads.map(self._prepare, set(setups.values()) - self._prepared))
            self._prepared |= set(setups.values())
            scorer = scorer_of(run.config, self._runner, setups, run.rates())
            self._laboratories[run] = scorer
        return self._laboratories[run]

    def _prepare(self, setup: TaskSetup) -> None:
        program, backend = zoo.load(BASELINE), self._runner.backend
        backend.prepare(setup, program, backend.engine(setup, program, runs=1))

    def _trainings(self, run: Run) -> int:
        """For each seed: the program and the baseline on every task."""
        return 2 * len(run.config.tasks)


def _scores(found: Mapping[str, Measurement], tasks: Sequence[str]) -> Mapping[str, float]:
    """Scores by task; what the hurdle spared counts as the worst."""
    return {task: found[task].score if task in found else -LARGEST_SCORE for task in tasks}
