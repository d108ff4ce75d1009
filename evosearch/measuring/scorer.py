"""The scorer, which measures programs and pairs every loss with the baseline's on the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

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
from evosearch.seeds import Conditions, Seed, Stream
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
        seeds_ahead: number of later search seeds on which `submit` trains the baseline in advance.
    """

    def __init__(
        self,
        runner: JobRunner,
        setups: Mapping[str, TaskSetup],
        run_seed: int,
        baseline_rates: Mapping[str, float],
        settings: MeasurementConfig,
        seeds_ahead: int = 0,
    ):
        self._seeds_ahead = seeds_ahead
        self._next_baseline: int | None = None  # search seed on which it is trained next
        self.runner = runner
        self.setups = setups
        self.run_seed = run_seed
        self.baseline_rates = dict(baseline_rates)
        self.settings = settings
        self._task_indices = {task: index for index, task in enumerate(setups)}
        self._cached_loss_limits: dict[tuple[str, Seed], bytes] = {}
        self._baselines: dict[tuple[str, Seed], Future[JobResult]] = {}

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
        for task in self.setups:
            on_task(task)
            measurements[task] = self._measure(task, program, seed)
            if self._ends_after(measurements, task, min_totals):
                break
        return measurements

    def submit(
        self, program: Program, seed: Seed, min_totals: Mapping[str, float] | None = None
    ) -> Future[dict[str, Measurement]]:
        """Do the same as `measure` without a thread of its own, for a backend with batches.

        The trainings on later tasks are submitted by the thread that runs the batches.

        Args:
            program: the program, with its own learning rate.
            seed: the seed of all trainings.
            min_totals: see `measure`.

        Returns:
            The future of the measurements by task, with the errors of `measure`.
        """
        self._train_baseline_ahead(seed)
        return _Submitted(self, program, seed, min_totals).future

    def _train_baseline_ahead(self, seed: Seed) -> None:
        """Train the baseline on all tasks, and on later search seeds that the search will use."""
        for task in self.setups:
            self._baseline(task, seed)
        if seed.stream is not Stream.SEARCH:
            return
        first = seed.number if self._next_baseline is None else self._next_baseline
        self._next_baseline = max(first, seed.number + self._seeds_ahead + 1)
        for number in range(first, self._next_baseline):
            for task in self.setups:
                self._baseline(task, Seed(Stream.SEARCH, number))

    def _measure(self, task: str, program: Program, seed: Seed) -> Measurement:
        baseline = self._baseline(task, seed).result()
        job = self._limited_job(task, program, seed, baseline)
        return _measurement(job, baseline, self.runner.run(job))

    def _ends_after(
        self,
        measurements: Mapping[str, Measurement],
        task: str,
        min_totals: Mapping[str, float] | None,
    ) -> bool:
        """Whether the hurdle or the race skips the tasks after `task`."""
        if measurements[task].score < self.settings.hurdle:
            return True
        if min_totals is None:
            return False
        total = 0.0  # `sum` rounds differently from Python 3.12 on
        for measurement in measurements.values():
            total += min(measurement.score, self.settings.largest_gain)
        return total < min_totals[task]

    def _baseline(self, task: str, seed: Seed) -> Future[JobResult]:
        """Return the future of the baseline's training."""
        future = self._baselines.get((task, seed))
        if future is None:
            job = self._job(task, zoo.load(BASELINE), seed, self.baseline_rates[task])
            future = self.runner.submit_once(job)
            self._baselines[task, seed] = future
        return future

    def _limited_job(self, task: str, program: Program, seed: Seed, baseline: JobResult) -> Job:
        """Return the training of a program, which the hurdle may stop.

        Raises:
            EvosearchError: the baseline's training crashed or timed out.
        """
        if (task, seed) not in self._cached_loss_limits:
            check_result(
                self._job(task, zoo.load(BASELINE), seed, self.baseline_rates[task]), baseline
            )
        limits = self._loss_limits(task, seed, baseline)
        return self._job(task, program, seed, loss_limits=limits)

    def _job(
        self,
        task: str,
        program: Program,
        seed: Seed,
        lr_factor: float = 1.0,
        loss_limits: bytes | None = None,
    ) -> Job:
        setup = self.setups[task]
        engine = self.runner.backend.engine(setup, program, trainings=1)
        conditions = self._conditions(task, seed)
        return Job(setup, program, engine, conditions, self.run_seed, seed, lr_factor, loss_limits)

    def _conditions(self, task: str, seed: Seed) -> Conditions:
        return self.settings.rounds.of(seed, self._task_indices[task], self.setups[task].steps)

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


class _Submitted:
    """The measurement of one program, which goes on in the callbacks of its trainings.

    Attributes:
        future: the future of the measurements by task.
    """

    def __init__(
        self,
        scorer: Scorer,
        program: Program,
        seed: Seed,
        min_totals: Mapping[str, float] | None,
    ):
        self.future: Future[dict[str, Measurement]] = Future()
        self._scorer = scorer
        self._program = program
        self._seed = seed
        self._min_totals = min_totals
        self._tasks = iter(scorer.setups)
        self._measurements: dict[str, Measurement] = {}
        self._begin_next_task()

    def _begin_next_task(self) -> None:
        """Wait for the baseline on the next task, or pass on the measurements after the last."""
        task = next(self._tasks, None)
        if task is None:
            self.future.set_result(self._measurements)
            return
        try:
            baseline = self._scorer._baseline(task, self._seed)
        except Exception as error:
            self.future.set_exception(error)
            return
        baseline.add_done_callback(partial(self._train, task))

    def _train(self, task: str, baseline: Future[JobResult]) -> None:
        """Submit the program's training."""
        scorer = self._scorer
        try:
            result = baseline.result()
            job = scorer._limited_job(task, self._program, self._seed, result)
            training = scorer.runner.submit(job)
        except BaseException as error:  # includes CancelledError
            self.future.set_exception(error)
            return
        training.add_done_callback(partial(self._end_task, task, job, result))

    def _end_task(
        self, task: str, job: Job, baseline: JobResult, training: Future[JobResult]
    ) -> None:
        """Add the measurement of a task, and go on with the next task."""
        try:
            self._measurements[task] = _measurement(job, baseline, training.result())
            ends = self._scorer._ends_after(self._measurements, task, self._min_totals)
        except BaseException as error:  # includes CancelledError
            self.future.set_exception(error)
            return
        if ends:
            self.future.set_result(self._measurements)
        else:
            self._begin_next_task()


def _measurement(job: Job, baseline: JobResult, result: JobResult) -> Measurement:
    return Measurement(
        loss=result.loss,
        baseline=baseline.loss,
        steps=result.steps if result.stopped else job.conditions.steps,
        schedule=job.conditions.schedule,
        engine=result.failure or result.engine,
        stopped=result.stopped,
    )


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
    settings = config.measurement
    seeds_ahead = math.ceil(config.requests / settings.requests_per_seed)
    return Scorer(runner, setups, config.seed, baseline_rates, settings, seeds_ahead)


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
