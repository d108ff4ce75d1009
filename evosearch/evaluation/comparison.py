"""Which differences between contenders are real.

All contenders train on the same seeds, so that differences are paired: log(loss / reference's loss)
on a seed, clipped to +-log 4, where a divergence counts as the clip (two divergences as equal).
Which of them are real is decided over all comparisons of a report together (Holm 1979). Over
several tasks the fitness is that of a search: minus the difference to the first reference, averaged
over tasks on each seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evosearch.evaluation.results import ROUNDING, Difference, Evaluation, Fitness, TaskReport
from evosearch.evaluation.standings import standings
from evosearch.statistics import Interval, holm, interval, log_ratio, p_value

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
    judged = [_with_verdicts(report, references, tested) for report in reports]
    on_these = {name: tested[None, name, first] for name in overall if name != first}
    return Evaluation(
        tuple(judged),
        tuple(_fitness(name, first, tasks, tested) for name in overall),
        tuple(standings(judged, first, on_these)) if overall else (),
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
