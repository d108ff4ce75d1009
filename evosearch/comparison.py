"""What an evaluation found, and which differences in it are real.

All contenders train on the same seeds, so that differences are paired: log(loss / reference's loss)
on a seed, clipped to +-log 4, where a divergence counts as the clip (two divergences as equal).
Which of them are real is decided over all comparisons of a report together (Holm 1979). Over
several tasks the fitness is that of a search: minus the difference to the first reference, averaged
over tasks on each seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evosearch.statistics import Interval, holm, interval, log_ratio, p_value

ERROR_RATE = 0.05
"""Chance that a report calls any difference real that is none."""
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
        """`better`, `worse` or `no real difference`."""
        if not self.real:
            return "no real difference"
        return "better" if self.interval.mean < 0 else "worse"

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
        trials: the geometric mean loss on tuning seeds for every factor tried; +inf if diverged.
        losses: one for each fresh seed; +inf if diverged.
        versus: the difference to each reference that it was compared with.
    """

    program: str
    source: str
    lr: float
    trials: Mapping[float, float]
    losses: tuple[float, ...]
    versus: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def diverged(self) -> int:
        """How many fresh seeds ended in a loss that is not finite."""
        return sum(not math.isfinite(loss) for loss in self.losses)

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
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": len(self.losses),
            "scores": [_finite(loss) for loss in self.losses],
            "diverged": self.diverged,
            "trials": {f"{rate:g}": _finite(loss) for rate, loss in self.trials.items()},
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
        difference: the same as a difference, with its test; None for the reference itself.
    """

    program: str
    interval: Interval
    per_task: Mapping[str, float]
    difference: Difference | None

    def document(self) -> dict[str, Any]:
        """The fitness as JSON."""
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
class Evaluation:
    """What `evaluate` found.

    Attributes:
        tasks: a report for each task.
        overall: every contender's fitness, where there are several tasks.
        reference: the contender that fitness is relative to.
        tuning_seeds: seeds for each trial of a learning rate.
        comparisons: how many differences were tested together.
    """

    tasks: tuple[TaskReport, ...]
    overall: tuple[Fitness, ...]
    reference: str
    tuning_seeds: int
    comparisons: int

    def document(self) -> dict[str, Any]:
        """The evaluation as JSON: of the one task, or `tasks`, `overall` and `reference`."""
        tasks = [report.document() for report in self.tasks]
        if not self.overall:
            return tasks[0]
        overall = [fitness.document() for fitness in self.overall]
        return {"tasks": tasks, "overall": overall, "reference": self.reference}


_Comparison = tuple[str | None, str, str]
"""A task (None for all of them), a contender and a reference."""


def compare(
    reports: Sequence[TaskReport], references: Sequence[str], tuning_seeds: int
) -> Evaluation:
    """The evaluation, with every comparison tested at one error rate.

    Every contender is compared with the first reference, and those that are no reference with the
    others too.
    """
    first = references[0]
    contenders = [result.program for result in reports[0].results]
    pairs = [(name, first) for name in contenders if name != first]
    pairs += [(n, other) for n in contenders if n not in references for other in references[1:]]
    differences: dict[_Comparison, list[float]] = {}
    for report in reports:
        losses = {result.program: result.losses for result in report.results}
        for name, other in pairs:
            found = list(map(log_ratio, losses[name], losses[other]))
            differences[report.task, name, other] = found
    overall = contenders if len(reports) > 1 else []
    for name in overall:
        if name != first:
            by_task = [differences[report.task, name, first] for report in reports]
            differences[None, name, first] = [float(mean) for mean in np.mean(by_task, axis=0)]
    tested = _tested(differences)
    tasks = [report.task for report in reports]
    return Evaluation(
        tuple(_with_verdicts(report, references, tested) for report in reports),
        tuple(_fitness(name, first, tasks, tested) for name in overall),
        first,
        tuning_seeds,
        len(tested),
    )


def _tested(differences: Mapping[_Comparison, Sequence[float]]) -> dict[_Comparison, Difference]:
    p_values = [p_value(found, ROUNDING) for found in differences.values()]
    return {
        comparison: Difference(interval(found, ROUNDING), p, p_holm)
        for (comparison, found), p, p_holm in zip(
            differences.items(), p_values, holm(p_values), strict=True
        )
    }


def _with_verdicts(
    report: TaskReport, references: Sequence[str], tested: Mapping[_Comparison, Difference]
) -> TaskReport:
    results = []
    for result in report.results:
        comparisons = {name: (report.task, result.program, name) for name in references}
        versus = {name: tested[key] for name, key in comparisons.items() if key in tested}
        results.append(replace(result, versus=versus))
    return replace(report, results=tuple(results))


def _fitness(
    name: str, first: str, tasks: Sequence[str], tested: Mapping[_Comparison, Difference]
) -> Fitness:
    if name == first:
        return Fitness(name, Interval(0.0, 0.0, 0.0), dict.fromkeys(tasks, 0.0), None)
    difference = tested[None, name, first]
    mean, low, high = difference.interval
    per_task = {task: 0.0 - tested[task, name, first].interval.mean for task in tasks}
    return Fitness(name, Interval(0.0 - mean, -high, -low), per_task, difference)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
