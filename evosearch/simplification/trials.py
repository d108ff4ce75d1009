"""Losses of programs on the measuring tasks, each training run once; differences are paired."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

import proxies
from evosearch.errors import EvosearchError
from evosearch.fixed import TUNING_RATES
from evosearch.measuring.engines import Outcome, Trainer
from evosearch.measuring.laboratory import BASELINE, tune_baseline
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.trainings import kept_training
from evosearch.measuring.tuning import Tuner, tune_alike
from evosearch.seeds import Conditions, Seed, Stream
from evosearch.simplification.deciding import bounds
from evosearch.simplification.record import Cost
from evosearch.statistics import log_loss, log_ratio
from primitives import Program, semantic_key, zoo
from primitives.machine.instructions import OpNames

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done and, if known, how much there is."""

TUNING_SEEDS = 3
_FITNESS_SEEDS = 32
_FEW_RUNS = 8


class Trials:
    """Trains programs on tasks and seeds, from a pool of threads; a context manager.

    The original program's learning rate is tuned on every task, and every other program trains at
    the same factor: what is compared is the program as it stands. The baseline, which fitness is
    relative to, has its own.

    Args:
        original: the program that costs are measured against.
        tasks: names of the measuring tasks.
        seed: all seeds follow from it; the result does not depend on `workers`.
        ops: those that the programs to come are made of.
        workers: threads that train; None for one per core.
        progress: told what is going on.
        ledger: where trainings are kept, so that a second call goes on where the first one ended;
            None for nowhere.

    Raises:
        EvosearchError: the original program trains on a task at no learning rate.
    """

    def __init__(
        self,
        original: Program,
        tasks: Sequence[str],
        seed: int,
        ops: OpNames,
        workers: int | None = None,
        progress: Progress = lambda text, done, total: None,
        ledger: Ledger | None = None,
    ):
        self._ledger = ledger or Ledger()
        self.original = original
        self.seed = seed
        self.trainings = 0
        self._progress = progress
        self._doing = ""
        self._executor = ThreadPoolExecutor(workers or os.cpu_count() or 1)
        self._losses: dict[tuple[str, str, float, Seed], Future[float]] = {}
        self._baseline = zoo.load(BASELINE)
        self._trainers = {
            name: Trainer(proxies.load(name), ops=ops | self._baseline.ops) for name in tasks
        }
        self.factors: dict[str, float] = {}
        self._baseline_factors: dict[str, float] = {}

    def __enter__(self) -> Trials:
        try:
            self._prepare()
        except BaseException:
            self._executor.shutdown(wait=False, cancel_futures=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=kind is None, cancel_futures=True)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The measuring tasks."""
        return tuple(self._trainers)

    def say(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Tells whoever watches what is going on, now and while `differences` waits."""
        self._doing = text
        self._progress(text, done, total)

    def differences(
        self, program: Program, reference: Program, seeds: Sequence[Seed]
    ) -> np.ndarray:
        """log(program's loss / reference's), clipped to +-log 4, [tasks, seeds]."""
        self.request([program, reference], seeds)
        found = np.empty((len(self.tasks), len(seeds)))
        for column, seed in enumerate(seeds):
            self._progress(self._doing, column * len(found), found.size)
            for row, task in enumerate(self.tasks):
                loss, other = (self._loss(task, one, seed) for one in (program, reference))
                found[row, column] = log_ratio(loss, other)
        return found

    def request(self, programs: Sequence[Program], seeds: Sequence[Seed]) -> None:
        """Begins the trainings that `differences` will ask for, so that all cores are busy."""
        for seed in seeds:
            for task in self.tasks:
                for program in programs:
                    self._begin(task, program, seed)

    def diverges(self, program: Program, seeds: Sequence[Seed]) -> bool:
        """Whether `program` diverges on a seed and task on which the original does not."""
        return any(
            not math.isfinite(self._loss(task, program, seed))
            and math.isfinite(self._loss(task, self.original, seed))
            for task in self.tasks
            for seed in seeds
        )

    def cost(
        self, program: Program, seeds: Sequence[Seed], *, against: Program | None = None, looks: int
    ) -> Cost:
        """What `program` costs on `seeds`, where the data were, or may have been, looked at often.

        Args:
            program: is compared with `against`, by default the original.
            seeds: two or more; the fitness is from the first 32.
            against: the program that it is compared with.
            looks: between how many looks at the data the error rate is shared.
        """
        few = seeds[:_FITNESS_SEEDS]
        self.request([self._baseline], few)
        found = self.differences(program, against or self.original, seeds)
        over_tasks = bounds(found.mean(axis=0), looks)
        per_task = [bounds(row, looks) for row in found]
        behind = self.differences(program, self._baseline, few)
        return Cost(
            over_tasks.mean,
            over_tasks.low,
            over_tasks.high,
            {task: (held.mean, held.high) for task, held in zip(self.tasks, per_task, strict=True)},
            len(seeds),
            -float(behind.mean()),
        )

    def _begin(self, task: str, program: Program, seed: Seed) -> Future[float]:
        factors = self._baseline_factors if program == self._baseline else self.factors
        key = (semantic_key(program), task, factors[task], seed)
        known = self._losses.get(key)
        if known is None:
            known = self._executor.submit(self._train, task, program, factors[task], seed)
            self._losses[key] = known
            self.trainings += 1
        return known

    def _loss(self, task: str, program: Program, seed: Seed) -> float:
        return self._begin(task, program, seed).result()

    def _train(self, task: str, program: Program, factor: float, seed: Seed) -> float:
        trainer = self._trainers[task]
        engine = trainer.choose_engine(program, _FEW_RUNS)
        under = Conditions(trainer.steps)
        return self._kept(trainer, program, factor, self.seed, seed, engine, under).loss

    def _kept(self, trainer: Trainer, program: Program, *words: Any) -> Outcome:
        return kept_training(self._ledger, trainer, program, *words)

    def _prepare(self) -> None:
        """Compiles the tasks' interpreters, then tunes the original and the baseline on each."""
        seeds = [Seed(Stream.SIMPLIFY_TUNE, number) for number in range(TUNING_SEEDS)]
        for number, (task, trainer) in enumerate(self._trainers.items()):
            left = len(self._trainers) - number
            self.say(f"compiling and tuning learning rates: {left} task{'s' * (left != 1)} to go")
            trainer.prepare(self.original, trainer.choose_engine(self.original, _FEW_RUNS))
            under = {seed: Conditions(trainer.steps) for seed in seeds}
            baseline = tune_baseline(task, trainer, self.seed, under, self._executor, self._kept)
            self._baseline_factors[task] = baseline.best
            self.factors[task] = self._tuned(task, seeds)

    def _tuned(self, task: str, seeds: Sequence[Seed]) -> float:
        trainer = self._trainers[task]
        engine = trainer.choose_engine(self.original, _FEW_RUNS)
        tuner = Tuner(TUNING_RATES)

        def mean_losses(trials: list[tuple[str, float]]) -> list[float]:
            under = Conditions(trainer.steps)
            rows = [
                [
                    self._executor.submit(
                        self._kept, trainer, self.original, rate, self.seed, seed, engine, under
                    )
                    for seed in seeds
                ]
                for _, rate in trials
            ]
            return [float(np.mean([log_loss(one.result().loss) for one in row])) for row in rows]

        tune_alike({task: tuner}, mean_losses)
        if not math.isfinite(tuner.losses[tuner.best]):
            raise EvosearchError(
                f"the program diverges on {task!r} at every learning rate from "
                f"{min(tuner.losses):g} to {max(tuner.losses):g} times its own; measure on "
                "other tasks, or simplify with --algebra-only"
            )
        return tuner.best
