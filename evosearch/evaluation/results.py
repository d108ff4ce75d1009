"""Classes for the results of an evaluation: by task, over several tasks, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evosearch.measuring.tuning import Setting
from evosearch.statistics import Interval, interval
from evosearch.verdicts import ERROR_RATE, Verdict, difference_verdict, verdict_on_other_tasks

MIN_DEVIATION = 1e-3
"""Standard deviations of differences count as at least this, so rounding is never significant."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of two contenders' log losses over seeds; negative is better.

    Attributes:
        interval: mean and 95% interval of log(loss / reference's loss).
        p: two-sided p-value of the hypothesis that the mean is zero.
        p_holm: `p` after Holm's correction for all comparisons of the report.
    """

    interval: Interval
    p: float
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant, at an error rate of 5% for the whole report."""
        return self.p_holm < ERROR_RATE

    @property
    def verdict(self) -> str:
        """`better`, `worse` or, for a difference that is not significant, `tie`."""
        verdict = difference_verdict(self.interval.mean, self.p_holm)
        return "tie" if verdict is Verdict.UNDECIDED else str(verdict)

    def document(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        mean, low, high = self.interval
        return {
            "difference": mean,
            "low": low,
            "high": high,
            "p": self.p,
            "p_holm": self.p_holm,
            "real": self.is_significant,
        }


@dataclass(frozen=True)
class Result:
    """One contender on one task.

    Attributes:
        program: name of the contender.
        source: text of the contender.
        lr: tuned multiplier of the contender's own learning rate.
        decay: tuned decoupled weight decay, applied outside the contender.
        trials: geometric mean loss on the tuning seeds by setting; +inf if diverged.
        losses: final loss of each fresh seed; +inf if diverged.
        curve: smoothed batch loss at evenly spaced steps, mean over fresh seeds.
        update_rms: root mean square of the updates at these steps, mean over fresh seeds.
        sharpness: largest absolute eigenvalue of the loss's Hessian at the final weights, geometric
            mean over a few seeds; None if not requested, NaN if a training diverged.
        versus: difference to each reference, by the reference's name.
    """

    program: str
    source: str
    lr: float
    trials: Mapping[Setting, float]
    losses: tuple[float, ...]
    decay: float = 0.0
    curve: tuple[float, ...] = ()
    update_rms: tuple[float, ...] = ()
    sharpness: float | None = None
    versus: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def diverged(self) -> int:
        """Number of fresh seeds whose loss is not finite."""
        return sum(not math.isfinite(loss) for loss in self.losses)

    @property
    def at_edge(self) -> bool:
        """Whether `lr` is the smallest or largest tried value, so that a better one may exist."""
        tried_lrs = [lr for lr, decay in self.trials if decay == self.decay]
        return self.lr in (min(tried_lrs), max(tried_lrs)) if tried_lrs else False

    @property
    def loss(self) -> Interval | None:
        """Mean loss and 95% interval; None if any seed diverged."""
        return None if self.diverged else interval(self.losses, 0.0)

    def document(self) -> dict[str, Any]:
        """Return the result as JSON; infinite and NaN values are null."""
        mean, low, high = self.loss or (None, None, None)
        return {
            "program": self.program,
            "lr": self.lr,
            "decay": self.decay,
            "lr_at_edge": self.at_edge,
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": len(self.losses),
            "scores": [_finite(loss) for loss in self.losses],
            "diverged": self.diverged,
            "trials": [
                {"lr": lr, "decay": decay, "loss": _finite(loss)}
                for (lr, decay), loss in self.trials.items()
            ],
            "curve": [_finite(loss) for loss in self.curve],
            "update_rms": [_finite(size) for size in self.update_rms],
            "sharpness": None if self.sharpness is None else _finite(self.sharpness),
            "versus": {name: difference.document() for name, difference in self.versus.items()},
            "source": self.source,
        }


@dataclass(frozen=True)
class TaskReport:
    """The results of all contenders on one task.

    Attributes:
        task: name of the task.
        split: split of the task, such as `held-out`.
        metric: name of the final loss.
        steps: number of steps of a training.
        results: the result of each contender.
    """

    task: str
    split: str
    metric: str
    steps: int
    results: tuple[Result, ...]

    def document(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "task": self.task,
            "split": self.split,
            "metric": self.metric,
            "steps": self.steps,
            "results": [result.document() for result in self.results],
        }


@dataclass(frozen=True)
class Fitness:
    """The fitness of one contender over all tasks: the mean of log(reference's loss / loss).

    Attributes:
        program: name of the contender.
        interval: mean and 95% interval over seeds of the mean over tasks.
        per_task: mean over seeds for each task.
        difference: the mean over tasks of the paired difference to the reference, which is minus
            the fitness, with p-values over seeds; None for the reference.
    """

    program: str
    interval: Interval
    per_task: Mapping[str, float]
    difference: Difference | None

    def document(self) -> dict[str, Any]:
        """Return the fitness as JSON; `real` says whether it is significant on these tasks."""
        mean, low, high = self.interval
        return {
            "program": self.program,
            "fitness": mean,
            "low": low,
            "high": high,
            "per_task": dict(self.per_task),
            "real": self.difference is not None and self.difference.is_significant,
        }


@dataclass(frozen=True)
class Standing:
    """The wins, rank and loss ratio of one contender over a suite.

    Attributes:
        program: name of the contender.
        wins: number of tasks on which the contender is significantly better than the reference,
            after Holm's correction.
        losses: number of tasks on which the contender is significantly worse.
        ties: number of tasks without a significant difference.
        mean_rank: mean rank among all contenders by mean log loss; 1 is the best, and equal losses
            share their mean rank.
        ratio: geometric mean over tasks of loss / reference's loss, each ratio clipped to 1/4 to 4,
            with its 95% interval from a bootstrap over tasks and the seeds of each task.
        verdict_on_measured_tasks: verdict over seeds on the measured tasks; None for the reference.
        p_holm: p-value of the hypothesis that the mean log ratio over tasks is zero (Student's t),
            after Holm's correction for all contenders; None for the reference.
    """

    program: str
    wins: int
    losses: int
    ties: int
    mean_rank: float
    ratio: Interval
    verdict_on_measured_tasks: Verdict | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided`, for other tasks like the measured tasks."""
        if self.verdict_on_measured_tasks is None or self.p_holm is None:
            return "the reference"
        return str(verdict_on_other_tasks(self.verdict_on_measured_tasks, self.ratio, self.p_holm))

    def document(self) -> dict[str, Any]:
        """Return the standing as JSON."""
        mean, low, high = self.ratio
        return {
            "program": self.program,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "mean_rank": self.mean_rank,
            "ratio": mean,
            "ratio_low": low,
            "ratio_high": high,
            "on_these_tasks": self.verdict_on_measured_tasks,
            "p_holm": self.p_holm,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        tasks: report of each task.
        overall: fitness of each contender; empty for a single task.
        standings: standing of each contender, the best first; empty for a single task.
        reference: name of the contender that fitness is relative to.
        tuning_seeds: number of seeds of each tuning trial.
        comparisons: number of differences in Holm's correction.
    """

    tasks: tuple[TaskReport, ...]
    overall: tuple[Fitness, ...]
    standings: tuple[Standing, ...]
    reference: str
    tuning_seeds: int
    comparisons: int

    def document(self) -> dict[str, Any]:
        """Return the evaluation as JSON; for a single task, this is the report of that task."""
        tasks = [report.document() for report in self.tasks]
        if not self.overall:
            return tasks[0]
        return {
            "tasks": tasks,
            "overall": [fitness.document() for fitness in self.overall],
            "standings": [standing.document() for standing in self.standings],
            "reference": self.reference,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
