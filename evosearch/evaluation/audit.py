"""Audits of searches, which test whether the reported fitness of champions is unbiased.

The reported fitness of a champion is measured on seeds that influenced no decision, so the reported
fitness should be unbiased. An audit measures the confirmed champions again, under the same
conditions and with the same baseline, on seeds of a separate stream. Without a bias, the 95%
interval of the mean of (reported fitness - fresh fitness) over champions contains zero with
probability 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from evosearch import verdicts
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
from primitives import zoo

Progress = Callable[[str, int, int], None]
"""Called with the current activity, the number of finished trainings and their expected total."""


@dataclass(frozen=True)
class AuditedChampion:
    """A champion with its reported fitness, and its fitness on the seeds of the audit.

    Attributes:
        run: directory of the run.
        id: number of the program in its run.
        reported: reported fitness: mean and 95% interval over the seeds of its confirmation.
        fresh: fitness on fresh seeds: mean and 95% interval over the seeds of the audit.
        per_task: mean score of each task over the seeds of the audit.
    """

    run: str
    id: int
    reported: Interval
    fresh: Interval
    per_task: Mapping[str, float]

    @property
    def difference(self) -> float:
        """Reported minus fresh fitness; positive if the reported fitness is too high."""
        return self.reported.mean - self.fresh.mean

    @property
    def half_width(self) -> float:
        """Half the width of the reported interval."""
        return (self.reported.high - self.reported.low) / 2


@dataclass(frozen=True)
class Audit:
    """The audited champions.

    Attributes:
        champions: the champions of all runs.
        seeds: number of fresh seeds of each champion.
    """

    champions: tuple[AuditedChampion, ...]
    seeds: int

    @property
    def mean_difference(self) -> float:
        """Mean over champions of reported minus fresh fitness."""
        return float(np.mean([champion.difference for champion in self.champions]))

    @property
    def standard_error(self) -> float | None:
        """Standard error of `mean_difference`; None for a single champion."""
        if len(self.champions) < 2:
            return None
        differences = [champion.difference for champion in self.champions]
        return float(np.std(differences, ddof=1)) / math.sqrt(len(differences))

    @property
    def bias_interval(self) -> Interval | None:
        """`mean_difference` with its 95% interval (Student's t); None for a single champion."""
        return verdicts.bias_interval([champion.difference for champion in self.champions])

    @property
    def interval_contains_zero(self) -> bool | None:
        """Whether `bias_interval` contains zero; None for a single champion."""
        return None if self.bias_interval is None else verdicts.side_of(self.bias_interval) == 0

    def document(self) -> dict[str, Any]:
        """Return the audit as JSON."""
        return {
            "seeds": self.seeds,
            "champions": [
                {
                    "run": champion.run,
                    "id": champion.id,
                    "reported": champion.reported._asdict(),
                    "half_width": champion.half_width,
                    "fresh": champion.fresh._asdict(),
                    "per_task": dict(champion.per_task),
                    "difference": champion.difference,
                }
                for champion in self.champions
            ],
            "mean_difference": self.mean_difference,
            "standard_error": self.standard_error,
            "mean_low": self.bias_interval and self.bias_interval.low,
            "mean_high": self.bias_interval and self.bias_interval.high,
            "agrees": self.interval_contains_zero,
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
    """Measure all confirmed champions of `runs` again.

    Args:
        runs: the runs, finished or not; they are not changed.
        seeds: number of fresh seeds for each champion; each champion has different seeds.
        workers: number of concurrent trainings, which does not affect results; None for one per
            core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each failed training, which counts as diverged.
        progress: called with the state of the audit.

    Raises:
        UsageError: there are fewer than two seeds, or no run has a confirmed champion.
        TrainingError: a user's task raised an exception.

    Example:
        >>> import evosearch
        >>> evosearch.audit([])
        Traceback (most recent call last):
        ...
        evosearch.errors.UsageError: no champion to audit: ...
    """
    if seeds < 2:
        raise UsageError(f"seeds = {seeds}: use at least 2")
    confirmed = [(run, champion) for run in runs for champion in _confirmed(run)]
    if not confirmed:
        raise UsageError(
            "no champion to audit: none of the runs has a confirmed champion; "
            "continue with `evosearch resume RUN`"
        )
    champions: list[AuditedChampion] = []
    with open_job_runner(workers, timeout=timeout, notify=notify) as runner:
        auditor = _Auditor(runner, progress, seeds, confirmed)
        try:
            for run, champion in confirmed:
                champions.append(auditor.audit(run, champion))
        finally:
            auditor.close()
    return Audit(tuple(champions), seeds)


def _confirmed(run: Run) -> list[ChampionEntry]:
    """Return the run's champions, without duplicates, whose confirmation is complete."""
    required = run.config.measurement.confirm_seeds
    confirmed = {}
    for entry in run.champions():
        is_initial = entry.number == 0
        if not is_initial and entry.estimate is not None and entry.estimate.seeds >= required:
            confirmed[entry.id] = entry
    return list(confirmed.values())


class _Auditor:
    """Measures champions; searches on the same tasks share compiled trainings."""

    def __init__(
        self,
        runner: JobRunner,
        progress: Progress,
        seeds: int,
        confirmed: Sequence[tuple[Run, ChampionEntry]],
    ):
        self._runner = runner
        # Each thread measures one seed on all tasks, and waits while the backend trains.
        self._threads = ThreadPoolExecutor(runner.backend.capacity)
        self._progress = progress
        self._seeds = seeds
        self._finished = 0
        self._expected_total = sum(self._trainings_per_seed(run) * seeds for run, _ in confirmed)
        self._prepared: set[TaskSetup] = set()
        self._scorers: dict[Run, Scorer] = {}

    def close(self) -> None:
        """Cancel measurements that have not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def audit(self, run: Run, champion: ChampionEntry) -> AuditedChampion:
        """Measure `champion` on seeds that no other champion of the run uses."""
        assert champion.estimate is not None
        first_seed = champion.number * self._seeds
        scorer = self._scorer(run)
        program = run.program(champion.id)
        futures = [
            self._threads.submit(scorer.measure, program, Seed(Stream.AUDIT, number))
            for number in range(first_seed, first_seed + self._seeds)
        ]
        name = f"{run.directory}#{champion.id}"
        tasks = run.config.tasks
        scores = []
        for future in futures:
            self._progress(name, self._finished, self._expected_total)
            try:
                scores.append(_scores(future.result(), tasks))
            except TrainingError as error:
                raise error.named(name if error.contender == program else "") from error.__cause__
            self._finished += self._trainings_per_seed(run)
        self._progress(name, self._finished, self._expected_total)
        settings = run.config.measurement
        return AuditedChampion(
            run=str(run.directory),
            id=champion.id,
            reported=champion.estimate.fitness,
            fresh=fitness(scores, settings.noise_floor, settings.largest_gain),
            per_task={
                task: float(np.mean([by_task[task] for by_task in scores])) for task in tasks
            },
        )

    def _scorer(self, run: Run) -> Scorer:
        """Return the scorer with the tasks and tuned learning rates of a run."""
        if run not in self._scorers:
            setups = setups_of(run.config)
            self._progress("compiling", self._finished, self._expected_total)
            list(self._threads.map(self._prepare, set(setups.values()) - self._prepared))
            self._prepared |= set(setups.values())
            scorer = scorer_of(run.config, self._runner, setups, run.rates())
            self._scorers[run] = scorer
        return self._scorers[run]

    def _prepare(self, setup: TaskSetup) -> None:
        program, backend = zoo.load(BASELINE), self._runner.backend
        backend.prepare(setup, program, backend.engine(setup, program, trainings=1))

    def _trainings_per_seed(self, run: Run) -> int:
        """Return the number of trainings per seed: the program and the baseline on every task."""
        return 2 * len(run.config.tasks)


def _scores(measurements: Mapping[str, Measurement], tasks: Sequence[str]) -> Mapping[str, float]:
    """Return the score of each task; tasks that were not measured have the worst score."""
    return {
        task: measurements[task].score if task in measurements else -LARGEST_SCORE for task in tasks
    }
