"""What an evaluation found, as data: differences, results by task, and over a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evosearch.measuring.tuning import Setting
from evosearch.statistics import Interval, interval
from evosearch.verdicts import ERROR_RATE, Verdict, difference_verdict, verdict_over_tasks

ROUNDING = 1e-3
"""Least standard deviation assumed of a difference: rounding is never a real one."""


@dataclass(frozen=True)
class Difference:
    """A paired difference of two contenders' log losses over seeds; negative is better.

    Attributes:
        interval: its mean and 95% interval.
        p: the chance of so large a mean if there were no difference.
        p_holm: `p` adjusted for all comparisons of the report.
    """

    interval: Interval
    p: float
    p_holm: float

    @property
    def real(self) -> bool:
        """Whether there is a difference, at an error rate of 5% for the whole report."""
        return self.p_holm < ERROR_RATE

    @property
    def verdict(self) -> str:
        """`better`, `worse` or, where the difference is not real, `tie`."""
        found = difference_verdict(self.interval.mean, self.p_holm)
        return "tie" if found is Verdict.UNDECIDED else str(found)

    def document(self) -> dict[str, Any]:
        """The difference as JSON."""
        mean, low, high = self.interval
        return {
            "difference": mean,
            "low": low,
            "high": high,
            "p": self.p,
            "p_holm": self.p_holm,
            "real": self.real,
        }


@dataclass(frozen=True)
class Result:
    """One contender on one task.

    Attributes:
        program: its name.
        source: its text.
        lr: the tuned factor on its own learning rate.
        decay: the tuned weight decay outside it.
        trials: the geometric mean loss on tuning seeds for every setting tried; +inf if diverged.
        losses: one for each fresh seed; +inf if diverged.
        curve: the smoothed batch loss at evenly spaced steps, the mean over fresh seeds.
        update_rms: the root mean square of the updates, likewise.
        sharpness: the largest eigenvalue of the loss's Hessian at the end, the geometric mean of
            its size over a few seeds; None if it was not asked for, NaN if a training diverged.
        versus: the difference to each reference that it was compared with.
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
        """How many fresh seeds ended in a loss that is not finite."""
        return sum(not math.isfinite(loss) for loss in self.losses)

    @property
    def at_edge(self) -> bool:
        """Whether `lr` is the smallest or largest that was tried: the best may lie beyond."""
        tried = [lr for lr, decay in self.trials if decay == self.decay]
        return self.lr in (min(tried), max(tried)) if tried else False

    @property
    def loss(self) -> Interval | None:
        """Mean and 95% interval; None if any seed diverged, for the mean is infinite then."""
        return None if self.diverged else interval(self.losses, 0.0)

    def document(self) -> dict[str, Any]:
        """The result as JSON; what is infinite is null."""
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
    """All contenders on one task."""

    task: str
    split: str
    metric: str
    steps: int
    results: tuple[Result, ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "task": self.task,
            "split": self.split,
            "metric": self.metric,
            "steps": self.steps,
            "results": [result.document() for result in self.results],
        }


@dataclass(frozen=True)
class Fitness:
    """One contender over all tasks: log(reference's loss / loss); 0.1 is about 10% lower loss.

    Attributes:
        program: its name.
        interval: mean and 95% interval over seeds of the mean over tasks.
        per_task: the mean over seeds for each task.
        difference: the same as a difference, with its test over seeds on these tasks; None for the
            reference itself.
    """

    program: str
    interval: Interval
    per_task: Mapping[str, float]
    difference: Difference | None

    def document(self) -> dict[str, Any]:
        """The fitness as JSON; `real` on these tasks, whatever others would show."""
        mean, low, high = self.interval
        return {
            "program": self.program,
            "fitness": mean,
            "low": low,
            "high": high,
            "per_task": dict(self.per_task),
            "real": self.difference is not None and self.difference.real,
        }


@dataclass(frozen=True)
class Standing:
    """How one contender stands over a suite.

    Attributes:
        program: its name.
        wins: tasks on which it is really better than the reference, by Holm's correction.
        losses: tasks on which it is really worse.
        ties: the rest.
        mean_rank: among all contenders by mean log loss, 1 the best; ties share the mean rank.
        ratio: the geometric mean over tasks of its loss over the reference's, each clipped to
            1/4 to 4; its 95% interval is from a bootstrap that draws tasks and, in each, seeds.
        on_these: the verdict over seeds on these very tasks; None for the reference itself.
        p_holm: the p-value of the tasks' mean log ratios (Student's t), by Holm's correction for
            all contenders; None for the reference itself.
    """

    program: str
    wins: int
    losses: int
    ties: int
    mean_rank: float
    ratio: Interval
    on_these: Verdict | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        """`better` or `worse` where that holds for tasks like these, `undecided` elsewhere."""
        if self.on_these is None or self.p_holm is None:
            return "the reference"
        return str(verdict_over_tasks(self.on_these, self.ratio, self.p_holm))

    def document(self) -> dict[str, Any]:
        """The standing as JSON."""
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
            "on_these_tasks": self.on_these,
            "p_holm": self.p_holm,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        tasks: a report for each task.
        overall: every contender's fitness, where there are several tasks.
        standings: how every contender stands over several tasks, the best first.
        reference: the contender that fitness is relative to.
        tuning_seeds: seeds for each trial of a learning rate.
        comparisons: how many differences were tested together.
    """

    tasks: tuple[TaskReport, ...]
    overall: tuple[Fitness, ...]
    standings: tuple[Standing, ...]
    reference: str
    tuning_seeds: int
    comparisons: int

    def document(self) -> dict[str, Any]:
        """The evaluation as JSON: of the one task, or `tasks`, `overall` and `reference`."""
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
