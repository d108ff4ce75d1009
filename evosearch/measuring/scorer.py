"""The scorer, which measures programs and pairs every loss with the baseline's on the same seed."""

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
"""Name of the baseline in the zoo; its learning rate is tuned once per task."""


class Scorer:
    """Measures programs. Safe to use from several threads.

    Args:
        runner: runs the trainings.
        setups: setup of each task by name, in the search's order.
        run_seed: seed of the run, from which all other seeds are derived.
        baseline_rates: the baseline's learning rate by task, as a factor on the baseline's own
            rate; see `tune_baseline`.
        settings: settings of measurements, which include the conditions of seeds and the hurdle.
    """

    def __init__(
        self,
        runner: JobRunner,
        setups: Mapping[str, TaskSetup],
        run_seed: int,
        baseline_rates: Mapping[str, float],
        settings: MeasurementConfig,
    ):
        self.runner = runner
        self.setups = setups
        self.run_seed = run_seed
        self.baseline_rates = dict(baseline_rates)
        self.settings = settings
        self._task_indices = {task: index for index, task in enumerate(setups)}
        self._cached_loss_limits: dict[tuple[str, Seed], bytes] = {}

    def measure(
        self,
        program: Program,
        seed: Seed,
        min_totals: Mapping[str, float] | None = None,
        on_task: Callable[[str], None] = lambda task: None,
    ) -> dict[str, Measurement]:
        """Measure a program on one seed of the tasks, in order.

        After a task with a score below the hurdle, the remaining tasks are skipped. The hurdle also
        stops a training whose loss, after an eighth of its steps, is as far above the baseline's.
        In a race, the remaining tasks are skipped after a task at which the sum of the scores so
        far is below `min_totals`.

        Args:
            program: the program, with its own learning rate.
            seed: the seed of all trainings.
            min_totals: for a race, the minimum sum of scores after each task, with each
                score capped at `largest_gain`; None for no race.
            on_task: called with the name of each task before the training on it.

        Returns:
            The measurements by task, without the skipped tasks.

        Raises:
            TrainingError: code of a user task raised an exception.
            EvosearchError: the baseline's training crashed or timed out.
        """
        measurements: dict[str, Measurement] = {}
        total = 0.0
        for task in self.setups:
            on_task(task)
            measurement = measurements[task] = self._measure(task, program, seed)
            total += min(measurement.score, self.settings.largest_gain)
            is_behind = min_totals is not None and total < min_totals[task]
            if is_behind or measurement.score < self.settings.hurdle:
                break
        return measurements

    def _measure(self, task: str, program: Program, seed: Seed) -> Measurement:
        job = self._job(task, zoo.load(BASELINE), seed, self.baseline_rates[task])
        baseline = self.runner.submit_once(job).result()
        check_result(job, baseline)
        loss_limits = self._loss_limits(task, seed, baseline)
        job = replace(self._job(task, program, seed), loss_limits=loss_limits)
        result = self.runner.run(job)
        return Measurement(
            loss=result.loss,
            baseline=baseline.loss,
            steps=result.steps if result.stopped else job.conditions.steps,
            schedule=job.conditions.schedule,
            engine=result.failure or result.engine,
            stopped=result.stopped,
        )

    def _job(self, task: str, program: Program, seed: Seed, lr_factor: float = 1.0) -> Job:
        setup = self.setups[task]
        engine = self.runner.backend.engine(setup, program, trainings=1)
        conditions = self.settings.rounds.of(seed, self._task_indices[task], setup.steps)
        return Job(setup, program, engine, conditions, self.run_seed, seed, lr_factor)

    def _loss_limits(self, task: str, seed: Seed, baseline: JobResult) -> bytes:
        """Return the hurdle as a maximum of the smoothed batch loss, `[longest budget]` bytes.

        The limit is never below `exp(-hurdle)` times the baseline's final loss, since lower batch
        losses only show that training examples are memorized.
        """
        if (task, seed) not in self._cached_loss_limits:
            curve = np.maximum(proxies.smoothed(baseline.train_loss), baseline.loss)
            loss_limits = np.exp(-self.settings.hurdle) * curve
            loss_limits[: math.ceil(HURDLE_FROM * baseline.steps)] = np.inf
            loss_limits = np.where(np.isfinite(loss_limits), loss_limits, np.inf)
            self._cached_loss_limits[task, seed] = loss_limits.astype(np.float32).tobytes()
        return self._cached_loss_limits[task, seed]


def setups_of(config: Config) -> dict[str, TaskSetup]:
    """Return the setup of each task of a search, by name.

    Raises:
        UnknownTaskError: a task does not exist.
        UserTaskError: the file of a user task does not define a valid task.
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
    baseline_rates: Mapping[str, float],
) -> Scorer:
    """Return a scorer with the settings of a search and the baseline's learning rates."""
    return Scorer(runner, setups, config.seed, baseline_rates, config.measurement)


def check_result(job: Job, result: JobResult) -> None:
    """Check that a required training did not crash or time out; divergence is allowed.

    Raises:
        EvosearchError: the training crashed or timed out.
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
    conditions: Mapping[Seed, Conditions],
) -> Tuner:
    """Tune the baseline's learning rate for a task.

    Args:
        setup: setup of the task.
        runner: runs the trainings.
        run_seed: seed of the run, from which all other seeds are derived.
        conditions: the tuning seeds with their conditions.

    Returns:
        The finished tuner, with the mean loss at each learning rate.

    Raises:
        EvosearchError: the baseline has no finite loss at any learning rate, or a training crashed
            or timed out.
    """
    program, trainings = zoo.load(BASELINE), 10 * len(conditions)
    tuner = tune_rate(setup, program, runner, run_seed, conditions, trainings)
    if not math.isfinite(tuner.losses[tuner.best]):
        raise EvosearchError(
            f"task {setup.task!r} cannot be searched on: {BASELINE} has no finite loss at any "
            f"learning rate from {min(tuner.losses):g} to {max(tuner.losses):g} times its own "
            "rate; leave the task out or mend its loss"
        )
    return tuner


def tune_rate(
    setup: TaskSetup,
    program: Program,
    runner: JobRunner,
    run_seed: int,
    conditions: Mapping[Seed, Conditions],
    trainings: int,
) -> Tuner:
    """Tune the learning rate of a program for a task.

    Args:
        setup: setup of the task.
        program: the program.
        runner: runs the trainings.
        run_seed: seed of the run, from which all other seeds are derived.
        conditions: the tuning seeds with their conditions.
        trainings: approximate number of trainings with this program, which decides the engine.

    Returns:
        The finished tuner, with the mean loss at each learning rate.

    Raises:
        EvosearchError: a training crashed or timed out.
    """
    engine = runner.backend.engine(setup, program, trainings)
    tuner = Tuner(TUNING_RATES)

    def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
        jobs_by_trial = [
            [
                Job(setup, program, engine, seed_conditions, run_seed, seed, rate)
                for seed, seed_conditions in conditions.items()
            ]
            for _, rate in trials
        ]
        for job in (job for jobs in jobs_by_trial for job in jobs):
            runner.submit_once(job)  # submit all jobs before waiting for the first
        return [
            float(np.mean([log_loss(_loss(runner, job)) for job in jobs])) for jobs in jobs_by_trial
        ]

    tune_equally({setup.task: tuner}, mean_losses)
    return tuner


def _loss(runner: JobRunner, job: Job) -> float:
    """Return the loss of a required training."""
    result = runner.submit_once(job).result()
    check_result(job, result)
    return result.loss
