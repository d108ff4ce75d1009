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
from evosearch.evaluating.ledger import Ledger, training_key
from evosearch.training.conditions import Conditions
from evosearch.training.contenders import Contender, Library
from evosearch.training.engines import Engine, Outcome, Trainer, seed_key
from evosearch.training.seeds import Seed
from evosearch.training.tuning import Setting

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
        words = (contender, setting.lr, under, self._run_seed, *seed, engine)
        key = training_key(trainer.task, *words)
        known = self._ledger.get(key)
        if known is not None:
            return known
        start = time.perf_counter()
        outcome = trainer.run(contender, setting.lr, seed_key(self._run_seed, seed), engine, under)
        outcome = replace(
            outcome,
            train_loss=condensed(outcome.train_loss[: under.steps]),
            update_rms=condensed(outcome.update_rms[: under.steps]),
        )
        description = f"{trainer.task.name} {under} lr {setting.lr:g} {seed}\n{contender}"
        self._ledger.put(key, description, outcome, time.perf_counter() - start)
        return outcome


def condensed(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Batch losses, or sizes of updates, smoothed, at `CURVE_POINTS` evenly spaced steps.

    Args:
        losses: `[steps]`; NaN after a stop. The last step is among those kept.
    """
    places = np.linspace(0, len(losses) - 1, CURVE_POINTS).round().astype(int)
    points: NDArray[np.float32] = proxies.smoothed(losses)[places].astype(np.float32)
    return points
