"""Trainings of an evaluation: on all workers, each made once, told how far they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import proxies
from evosearch.measuring.contenders import Contender, Library
from evosearch.measuring.engines import Engine, Outcome, Trainer, seed_key
from evosearch.measuring.ledger import Ledger, training_key
from evosearch.measuring.tuning import Setting
from evosearch.seeds import Conditions, Seed

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many trainings are done and how many there will be."""

CURVE_POINTS = 64
"""A training's curve is kept at so many steps, evenly spaced."""


class Job(NamedTuple):
    """What is to be trained on some seeds."""

    contender: Contender
    setting: Setting
    engine: Engine


class Trainings:
    """Runs trainings for one evaluation.

    Args:
        executor: its threads train.
        ledger: where trainings are kept and found again.
        run_seed: all seeds follow from it.
        schedule: for contenders that are not meant for another.
        progress: told how far it is.
        planned: how many trainings there will be, as far as is known.
    """

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        ledger: Ledger,
        run_seed: int,
        schedule: str,
        progress: Progress,
        planned: int,
    ):
        self.executor = executor
        self._ledger = ledger
        self._run_seed = run_seed
        self._schedule = schedule
        self._progress = progress
        self._planned = planned
        self._done = 0
        self._lock = threading.Lock()

    def extend(self, trainings: int) -> None:
        """There will be more trainings than planned."""
        with self._lock:
            self._planned += trainings

    def outcomes(
        self, text: str, trainer: Trainer, jobs: Sequence[Job], seeds: Sequence[Seed]
    ) -> list[list[Outcome]]:
        """What every job gives on every seed; `train_loss` is the condensed curve."""
        text = f"{trainer.task.name}: {text}"
        futures = [
            [self.executor.submit(self._outcome, trainer, job, seed) for seed in seeds]
            for job in jobs
        ]
        found: list[list[Outcome]] = []
        for row in futures:
            found.append([])
            for future in row:
                self.tell(text)
                found[-1].append(future.result())
                with self._lock:
                    self._done += 1
        self.tell(text)
        return found

    def sharpness(self, trainer: Trainer, job: Job, seed: Seed) -> float:
        """The sharpness where the training of `job` on `seed` ends."""
        self.tell(f"{trainer.task.name}: sharpness")
        key = seed_key(self._run_seed, seed)
        under = self._conditions(trainer, job)
        work = self.executor.submit(
            trainer.sharpness, job.contender, job.setting.lr, key, job.engine, under
        )
        return work.result()

    def _conditions(self, trainer: Trainer, job: Job) -> Conditions:
        contender = job.contender
        schedule = contender.schedule if isinstance(contender, Library) else None
        return Conditions(trainer.steps, schedule or self._schedule, job.setting.decay)

    def tell(self, text: str) -> None:
        """Tells the observer how far the evaluation is, and at what."""
        self._progress(text, self._done, max(self._done, self._planned))

    def _outcome(self, trainer: Trainer, job: Job, seed: Seed) -> Outcome:
        contender, setting, engine = job
        under = self._conditions(trainer, job)
        return kept_training(
            self._ledger, trainer, contender, setting.lr, self._run_seed, seed, engine, under
        )


def kept_training(
    ledger: Ledger,
    trainer: Trainer,
    contender: Contender,
    factor: float,
    run_seed: int,
    seed: Seed,
    engine: Engine,
    under: Conditions,
) -> Outcome:
    """One training, which `ledger` gives if it was made before, and keeps if it was not.

    Args:
        ledger: where it is kept.
        trainer: makes it.
        contender: what to train with.
        factor: on the contender's learning rate.
        run_seed: all seeds follow from it.
        seed: the training's.
        engine: how to run it.
        under: the budget, schedule and outside weight decay.

    Returns:
        The outcome; `train_loss` and `update_rms` are condensed to `CURVE_POINTS` points.
    """
    words = (contender, factor, under, run_seed, *seed, engine)
    key = training_key(trainer.task, *words)
    known = ledger.get(key)
    if known is not None:
        return known
    start = time.perf_counter()
    outcome = trainer.run(contender, factor, seed_key(run_seed, seed), engine, under)
    outcome = replace(
        outcome,
        train_loss=condensed(outcome.train_loss[: under.steps]),
        update_rms=condensed(outcome.update_rms[: under.steps]),
    )
    description = f"{trainer.task.name} {under} lr {factor:g} {seed}\n{contender}"
    ledger.put(key, description, outcome, time.perf_counter() - start)
    return outcome


def condensed(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Batch losses, or sizes of updates, smoothed, at `CURVE_POINTS` evenly spaced steps.

    Args:
        losses: `[steps]`, or `[0]`; NaN after a stop. The last step is among those kept.
    """
    if not len(losses):
        return losses
    places = np.linspace(0, len(losses) - 1, CURVE_POINTS).round().astype(int)
    points: NDArray[np.float32] = proxies.smoothed(losses)[places].astype(np.float32)
    return points
