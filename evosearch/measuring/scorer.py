"""Measuring programs on tasks: every score is paired with tuned AdamW on its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

import proxies
from evosearch.config import Config, MeasurementConfig
from evosearch.errors import EvosearchError
from evosearch.fixed import HURDLE_FROM, TUNING_RATES
from evosearch.measuring.contenders import describe_contender
from evosearch.measuring.job import Job, JobResult, TaskSetup
from evosearch.measuring.job_runner import JobRunner
from evosearch.measuring.measurement import Measurement
from evosearch.measuring.tuning import Tuner, tune_equally
from evosearch.seeds import Conditions, Seed
from evosearch.statistics import log_loss
from primitives import Program, zoo

BASELINE = "adamw_paper"
"""The zoo program that fitness is relative to, with one tuned learning rate per task."""


class Scorer:
    """Measures programs, from any number of threads.

    Args:
        runner: trains.
        setups: of each task, in the search's order.
        run_seed: all seeds follow from it.
        rates: for each task the baseline's learning rate; see `tune_baseline`.
        limits: among them the conditions of each seed, and the hurdle: a program with a lower score
            on one task is spared the rest of the training, from an eighth of it on, and the tasks
            after it.
    """

    def __init__(
        self,
        runner: JobRunner,
        setups: Mapping[str, TaskSetup],
        run_seed: int,
        rates: Mapping[str, float],
        limits: MeasurementConfig,
    ):
        self.runner = runner
        self.setups = setups
        self.run_seed = run_seed
        self.rates = dict(rates)
        self.limits = limits
        self._places = {task: place for place, task in enumerate(setups)}
        self._limits_on: dict[tuple[str, Seed], bytes] = {}

    def measure(
        self,
        program: Program,
        seed: Seed,
        floors: Mapping[str, float] | None = None,
        note: Callable[[str], None] = lambda task: None,
    ) -> dict[str, Measurement]:
        """`program`, as it is, on one seed of every task, up to the first below the hurdle.

        Or up to that after which the sum of its bounded scores is below the task's in `floors`.
        `note` is told each task before the training on it.

        Raises:
            TrainingError: an exception in a user's task.
            EvosearchError: the baseline's training crashed or took too long.
        """
        found: dict[str, Measurement] = {}
        total = 0.0
        for name in self.setups:
            note(name)
            found[name] = self._measure(name, program, seed)
            total += min(found[name].score, self.limits.largest_gain)
            behind = floors is not None and total < floors[name]
            if behind or found[name].score < self.limits.hurdle:
                break
        return found

    def _measure(self, task: str, program: Program, seed: Seed) -> Measurement:
        job = self._job(task, zoo.load(BASELINE), seed, self.rates[task])
        baseline = self.runner.submit_once(job).result()
        check_ended(job, baseline)
        limits = self._limits(task, seed, baseline)
        job = replace(self._job(task, program, seed), limits=limits)
        result = self.runner.run(job)
        return Measurement(
            loss=result.loss,
            baseline=baseline.loss,
            steps=result.steps if result.stopped else job.conditions.steps,
            schedule=job.conditions.schedule,
            engine=result.failure or result.engine,
            stopped=result.stopped,
        )

    def _job(self, task: str, program: Program, seed: Seed, factor: float = 1.0) -> Job:
        setup = self.setups[task]
        engine = self.runner.backend.engine(setup, program, runs=1)
        under = self.limits.rounds.of(seed, self._places[task], setup.steps)
        return Job(setup, program, engine, under, self.run_seed, seed, factor)

    def _limits(self, task: str, seed: Seed, baseline: JobResult) -> bytes:
        """[longest budget] what the smoothed batch loss of others may be at each step.

        Batch losses below the evaluation's tell only how far examples are known by heart.
        """
        if (task, seed) not in self._limits_on:
            curve = np.maximum(proxies.smoothed(baseline.train_loss), baseline.loss)
            limits = np.exp(-self.limits.hurdle) * curve
            limits[: math.ceil(HURDLE_FROM * baseline.steps)] = np.inf
            limits = np.where(np.isfinite(limits), limits, np.inf)
            self._limits_on[task, seed] = limits.astype(np.float32).tobytes()
        return self._limits_on[task, seed]


def setups_of(config: Config) -> dict[str, TaskSetup]:
    """How each task of a search is trained.

    Raises:
        UnknownTaskError: there is no such task.
        UserTaskError: a user's file makes no task.
    """
    longest = config.measurement.rounds.longest
    return {
        name: TaskSetup.of(proxies.load(name), longest=longest, ops=config.ops)
        for name in config.tasks
    }


def scorer_of(
    config: Config,
    runner: JobRunner,
    setups: Mapping[str, TaskSetup],
    rates: Mapping[str, float],
) -> Scorer:
    """A scorer that measures as the search does, with the baseline at `rates`."""
    return Scorer(runner, setups, config.seed, rates, config.measurement)


def check_ended(job: Job, result: JobResult) -> None:
    """Whether a training without which nothing can be measured ended, well or not.

    Raises:
        EvosearchError: it crashed or took too long.
    """
    if result.failure is not None:
        raise EvosearchError(
            f"task {job.setup.task!r} cannot be trained with {describe_contender(job.contender)} "
            f"({result.failure}): {result.reason}; mend the task, or give a longer --job-timeout"
        )


def tune_baseline(
    setup: TaskSetup,
    runner: JobRunner,
    run_seed: int,
    under: Mapping[Seed, Conditions],
) -> Tuner:
    """The baseline's learning rate for a task, chosen on some seeds.

    Args:
        setup: of the task.
        runner: trains.
        run_seed: all seeds follow from it.
        under: the tuning seeds, and the conditions of each.

    Raises:
        EvosearchError: the baseline has no finite loss at any rate, or its training crashed or took
            too long.
    """
    tuner = tune_rate(setup, zoo.load(BASELINE), runner, run_seed, under, runs=10 * len(under))
    if not math.isfinite(tuner.losses[tuner.best]):
        raise EvosearchError(
            f"task {setup.task!r} cannot be searched on: {BASELINE} has no finite loss at any "
            f"learning rate from {min(tuner.losses):g} to {max(tuner.losses):g} times its own; "
            "leave the task out or mend its loss"
        )
    return tuner


def tune_rate(
    setup: TaskSetup,
    program: Program,
    runner: JobRunner,
    run_seed: int,
    under: Mapping[Seed, Conditions],
    runs: int,
) -> Tuner:
    """The learning rate of `program` for a task; arguments as `tune_baseline`.

    About so many `runs` of the program are planned, which decides the engine.

    Raises:
        EvosearchError: a training crashed or took too long.
    """
    engine = runner.backend.engine(setup, program, runs)
    tuner = Tuner(TUNING_RATES)

    def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
        rows = [
            [
                Job(setup, program, engine, conditions, run_seed, seed, rate)
                for seed, conditions in under.items()
            ]
            for _, rate in trials
        ]
        for job in (job for row in rows for job in row):
            runner.submit_once(job)  # all are begun before one is waited for
        return [float(np.mean([log_loss(_ended(runner, job)) for job in row])) for row in rows]

    tune_equally({setup.task: tuner}, mean_losses)
    return tuner


def _ended(runner: JobRunner, job: Job) -> float:
    """The loss of a training that must end."""
    result = runner.submit_once(job).result()
    check_ended(job, result)
    return result.loss
