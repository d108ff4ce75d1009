"""Measuring programs on tasks: every score is paired with tuned AdamW on its own seed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import proxies
from evosearch.config import Config, MeasurementConfig
from evosearch.errors import EvosearchError
from evosearch.fixed import HURDLE_FROM, TUNING_RATES
from evosearch.measuring.batching import Batching
from evosearch.measuring.engines import Engine, Outcome, Trainer, seed_key
from evosearch.measuring.tuning import Tuner, tune_alike
from evosearch.seeds import Conditions, Seed
from evosearch.statistics import LARGEST_SCORE, log_loss, score
from primitives import Program, zoo

BASELINE = "adamw_paper"
"""The zoo program that fitness is relative to, with one tuned learning rate per task."""


@dataclass(frozen=True)
class Measurement:
    """One program on one task and seed, beside the baseline."""

    loss: float
    baseline: float
    steps: int
    schedule: str
    engine: Engine
    stopped: bool = False
    """Its curve was so far behind the baseline's that the training was ended after `steps`."""

    @property
    def score(self) -> float:
        """log(baseline / loss), clipped to +-log 4; -log 4 if diverged or stopped."""
        return -LARGEST_SCORE if self.stopped else score(self.loss, self.baseline)


@dataclass(frozen=True)
class _Baseline:
    """The baseline on one task and seed: its loss, and the limits that follow from its curve."""

    loss: float
    limits: NDArray[np.float32]


class Laboratory:
    """Measures programs, from any number of threads.

    Args:
        trainers: by task name.
        run_seed: all seeds follow from it.
        rates: for each task the baseline's learning rate; see `tune_baseline`.
        limits: among them the conditions of each seed, and the hurdle: a program with a lower score
            on one task is spared the rest of the training, from an eighth of it on, and the tasks
            after it.
    """

    def __init__(
        self,
        trainers: Mapping[str, Trainer],
        run_seed: int,
        rates: Mapping[str, float],
        limits: MeasurementConfig,
    ):
        self.trainers = trainers
        self.run_seed = run_seed
        self.rates = dict(rates)
        self.limits = limits
        self._places = {task: place for place, task in enumerate(trainers)}
        self._baselines: dict[tuple[str, Seed], Future[_Baseline]] = {}
        self._lock = threading.Lock()

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
        """
        found: dict[str, Measurement] = {}
        total = 0.0
        for name in self.trainers:
            note(name)
            found[name] = self._measure(name, program, seed)
            total += min(found[name].score, self.limits.largest_gain)
            behind = floors is not None and total < floors[name]
            if behind or found[name].score < self.limits.hurdle:
                break
        return found

    def _measure(self, task: str, program: Program, seed: Seed) -> Measurement:
        baseline = self._baseline(task, seed)
        outcome = self._run(task, program, 1.0, seed, baseline.limits)
        under = self._conditions(task, seed)
        return Measurement(
            loss=outcome.loss,
            baseline=baseline.loss,
            steps=outcome.steps if outcome.stopped else under.steps,
            schedule=under.schedule,
            engine=outcome.engine,
            stopped=outcome.stopped,
        )

    def _conditions(self, task: str, seed: Seed) -> Conditions:
        return self.limits.rounds.of(seed, self._places[task], self.trainers[task].steps)

    def _baseline(self, task: str, seed: Seed) -> _Baseline:
        """The baseline's course, trained once for each task and seed by whoever asks first."""
        with self._lock:
            known = self._baselines.get((task, seed))
            mine = known is None
            if known is None:
                known = self._baselines[task, seed] = Future()
        if mine:
            try:
                outcome = self._run(task, zoo.load(BASELINE), self.rates[task], seed)
                known.set_result(_Baseline(outcome.loss, self._limits(outcome)))
            except BaseException as error:
                known.set_exception(error)
                raise
        return known.result()

    def _limits(self, baseline: Outcome) -> NDArray[np.float32]:
        """[longest budget] what the smoothed batch loss of others may be at each step.

        Batch losses below the evaluation's tell only how far examples are known by heart.
        """
        curve = np.maximum(proxies.smoothed(baseline.train_loss), baseline.loss)
        limits = np.exp(-self.limits.hurdle) * curve
        limits[: math.ceil(HURDLE_FROM * baseline.steps)] = np.inf
        return np.where(np.isfinite(limits), limits, np.inf).astype(np.float32)

    def _run(
        self,
        task: str,
        program: Program,
        factor: float,
        seed: Seed,
        limits: NDArray[np.float32] | None = None,
    ) -> Outcome:
        trainer = self.trainers[task]
        engine = trainer.choose_engine(program, runs=1)
        key = seed_key(self.run_seed, seed)
        return trainer.run(program, factor, key, engine, self._conditions(task, seed), limits)


def load_trainers(
    config: Config, notice: Callable[[str], None] = lambda text: None
) -> dict[str, Trainer]:
    """What trains each task of a search; nothing is compiled yet.

    `notice` hears, from any thread, of batches that turn out to be too large.
    """
    longest = config.measurement.rounds.longest
    each = 1 / len(config.tasks)  # the tasks' batches share the devices
    batching = Batching(config.lanes, memory=each, told=notice) if config.batch > 1 else None
    return {
        name: Trainer(proxies.load(name), longest=longest, ops=config.ops, batching=batching)
        for name in config.tasks
    }


def laboratory_of(
    config: Config, trainers: Mapping[str, Trainer], rates: Mapping[str, float]
) -> Laboratory:
    """A laboratory that measures as the search does, with the baseline at `rates`."""
    return Laboratory(trainers, config.seed, rates, config.measurement)


Train = Callable[[Trainer, Program, float, int, Seed, Engine, Conditions], Outcome]
"""Makes one training: with which program, factor on its learning rate, run seed and seed."""


def train_once(
    trainer: Trainer,
    program: Program,
    factor: float,
    run_seed: int,
    seed: Seed,
    engine: Engine,
    conditions: Conditions,
) -> Outcome:
    """One training that is kept nowhere."""
    return trainer.run(program, factor, seed_key(run_seed, seed), engine, conditions)


def tune_baseline(
    name: str,
    trainer: Trainer,
    run_seed: int,
    under: Mapping[Seed, Conditions],
    executor: Executor,
    train: Train = train_once,
) -> Tuner:
    """The baseline's learning rate for the task `name`, chosen on some seeds.

    Args:
        name: the task's.
        trainer: trains it.
        run_seed: all seeds follow from it.
        under: the tuning seeds, and the conditions of each.
        executor: runs the trainings.
        train: makes one training.

    Raises:
        EvosearchError: the baseline has no finite loss at any rate.
    """
    program = zoo.load(BASELINE)
    engine = trainer.choose_engine(program, runs=10 * len(under))
    tuner = Tuner(TUNING_RATES)

    def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
        futures = [
            [
                executor.submit(train, trainer, program, rate, run_seed, seed, engine, conditions)
                for seed, conditions in under.items()
            ]
            for _, rate in trials
        ]
        return [float(np.mean([log_loss(f.result().loss) for f in row])) for row in futures]

    tune_alike({name: tuner}, mean_losses)
    if not math.isfinite(tuner.losses[tuner.best]):
        raise EvosearchError(
            f"task {name!r} cannot be searched on: {BASELINE} has no finite loss at any "
            f"learning rate from {min(tuner.losses):g} to {max(tuner.losses):g} times its own; "
            "leave the task out or mend its loss"
        )
    return tuner
