"""The signal-to-noise ratio of a task, which measures how well the task separates optimizers.

Known optimizers are tuned and trained on fresh seeds, as in `evaluate`. With `x[i, s]` the log loss
of optimizer `i` on seed `s`,

    signal = standard deviation over i of mean over s of x
    noise  = root mean square over i of the standard deviation over s of x

A search compares programs on the same seed, so a search is not affected by the part of the noise
that all optimizers share on a seed. The paired noise is the noise of `x[i, s] - mean over i of
x[:, s]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evosearch.errors import EvosearchError
from evosearch.evaluation.evaluation import Progress, evaluate
from evosearch.evaluation.results import TaskReport
from evosearch.statistics import log_loss

OPTIMIZERS = ("sgd", "momentum", "sign_sgd", "adam", "adamw", "lion", "adafactor")
"""The known optimizers whose losses are compared."""


@dataclass(frozen=True)
class SignalToNoise:
    """The signal and the noise of a task.

    Attributes:
        task: name of the task.
        signal: standard deviation of mean log losses between optimizers.
        noise: standard deviation of log losses between seeds of one optimizer.
        paired: `noise` without the part that all optimizers share on a seed.
        losses: geometric mean loss of each optimizer at its best learning rate.
        left_out: optimizers that diverged on a fresh seed and are not counted.
        seeds: number of fresh seeds.
    """

    task: str
    signal: float
    noise: float
    paired: float
    losses: dict[str, float]
    left_out: tuple[str, ...]
    seeds: int

    @property
    def ratio(self) -> float:
        """Signal divided by noise."""
        return self.signal / self.noise if self.noise else math.inf

    @property
    def paired_ratio(self) -> float:
        """Signal divided by the noise of paired scores."""
        return self.signal / self.paired if self.paired else math.inf

    def document(self) -> dict[str, Any]:
        """Return the result as JSON; infinite ratios are null."""
        ratios = {"ratio": self.ratio, "paired_ratio": self.paired_ratio}
        ratios_or_null = {
            name: ratio if math.isfinite(ratio) else None for name, ratio in ratios.items()
        }
        return {**asdict(self), "left_out": list(self.left_out), **ratios_or_null}


def signal_to_noise(
    tasks: Sequence[str],
    *,
    seeds: int = 8,
    seed: int = 0,
    workers: int | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda text, done, total: None,
) -> list[SignalToNoise]:
    """Return the signal-to-noise ratio of each task.

    Args:
        tasks: names of the tasks.
        seeds: number of fresh seeds for each optimizer on each task.
        seed: the number that all seeds are derived from.
        workers: number of concurrent trainings, which does not affect results; None for one per
            core.
        notify: called with a message for each failed training, which counts as diverged.
        progress: called with the state of the evaluation.

    Raises:
        UsageError: a task does not exist, or there are fewer than two seeds.
        EvosearchError: fewer than two optimizers have finite losses on a task.
    """
    evaluation = evaluate(
        {},
        tasks,
        against=OPTIMIZERS,
        seeds=seeds,
        seed=seed,
        workers=workers,
        notify=notify,
        progress=progress,
    )
    return [from_report(report) for report in evaluation.tasks]


def from_report(report: TaskReport) -> SignalToNoise:
    """Return the signal-to-noise ratio of the task of a report.

    Raises:
        EvosearchError: fewer than two contenders have finite losses.
    """
    trained = [result for result in report.results if not result.diverged]
    if len(trained) < 2:
        raise EvosearchError(
            f"task {report.task!r}: fewer than two optimizers have finite losses on it"
        )
    log_losses = np.array([[log_loss(loss) for loss in result.losses] for result in trained])
    optimizers, seeds = log_losses.shape
    seed_means, optimizer_means = log_losses.mean(axis=0), log_losses.mean(axis=1)
    residuals = log_losses - seed_means - optimizer_means[:, np.newaxis] + log_losses.mean()
    degrees_of_freedom = (optimizers - 1) * (seeds - 1)
    return SignalToNoise(
        task=report.task,
        signal=float(optimizer_means.std(ddof=1)),
        noise=float(np.sqrt(log_losses.var(axis=1, ddof=1).mean())),
        paired=float(np.sqrt(np.square(residuals).sum() / degrees_of_freedom)),
        losses={
            result.program: math.exp(mean)
            for result, mean in zip(trained, optimizer_means, strict=True)
        },
        left_out=tuple(result.program for result in report.results if result.diverged),
        seeds=seeds,
    )
