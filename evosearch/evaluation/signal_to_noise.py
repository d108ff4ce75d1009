"""Signal to noise of tasks: do they tell optimizers apart, beyond what the seed decides?

Known optimizers are tuned alike and trained on fresh seeds, as in `evaluate`. With `x[i, s]` the
log loss of optimizer `i` on seed `s`,

    signal = standard deviation over i of mean over s of x
    noise  = root mean square over i of the standard deviation over s of x

Scores are paired on their seed, so what a seed does to all optimizers alike does not matter to a
search: `paired` is the noise of `x[i, s] - mean over i of x[:, s]`.
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
"""The zoo's programs that are spread over a task."""


@dataclass(frozen=True)
class SignalToNoise:
    """How well a task tells optimizers apart.

    Attributes:
        task: its name.
        signal: the spread of mean log losses between optimizers.
        noise: the deviation of log losses between the seeds of one.
        paired: the same deviation, less what all optimizers share on a seed.
        losses: the geometric mean loss of every optimizer at its best learning rate.
        left_out: optimizers that diverged on a fresh seed.
        seeds: how many fresh seeds.
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
        """Signal over noise."""
        return self.signal / self.noise if self.noise else math.inf

    @property
    def paired_ratio(self) -> float:
        """Signal over the noise of paired scores."""
        return self.signal / self.paired if self.paired else math.inf

    def document(self) -> dict[str, Any]:
        """The result as JSON; a ratio without noise is null."""
        ratios = {"ratio": self.ratio, "paired_ratio": self.paired_ratio}
        finite = {name: one if math.isfinite(one) else None for name, one in ratios.items()}
        return {**asdict(self), "left_out": list(self.left_out), **finite}


def signal_to_noise(
    tasks: Sequence[str],
    *,
    seeds: int = 8,
    seed: int = 0,
    workers: int | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda text, done, total: None,
) -> list[SignalToNoise]:
    """The signal to noise of every task.

    Args:
        tasks: their names.
        seeds: fresh seeds for each optimizer on each task.
        seed: all seeds follow from it; the result does not depend on `workers`.
        workers: trainings at a time; None for one per core.
        notify: called with a message for each training that failed; it counts as diverged.
        progress: told how far it is.

    Raises:
        UsageError: no such task, or fewer than two seeds.
        EvosearchError: fewer than two optimizers train on a task.
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
    """The signal to noise in a report whose contenders trained on the same seeds.

    Raises:
        EvosearchError: fewer than two contenders have finite losses.
    """
    trained = [result for result in report.results if not result.diverged]
    if len(trained) < 2:
        raise EvosearchError(f"task {report.task!r}: fewer than two optimizers train on it")
    logs = np.array([[log_loss(loss) for loss in result.losses] for result in trained])
    count, seeds = logs.shape
    residuals = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    freedom = (count - 1) * (seeds - 1)
    return SignalToNoise(
        task=report.task,
        signal=float(logs.mean(axis=1).std(ddof=1)),
        noise=float(np.sqrt(logs.var(axis=1, ddof=1).mean())),
        paired=float(np.sqrt(np.square(residuals).sum() / freedom)),
        losses={
            result.program: math.exp(row.mean()) for result, row in zip(trained, logs, strict=True)
        },
        left_out=tuple(result.program for result in report.results if result.diverged),
        seeds=seeds,
    )
