"""Significance tests of the differences between contenders.

All contenders train on the same seeds, so differences are paired: log(loss / reference's loss) on a
seed, clipped to +-log 4. If one of the two diverges, the difference is +-log 4; if both, it is 0.
Holm's correction (1979) covers all comparisons of a report. Over several tasks, fitness is defined
as in a search: minus the difference to the first reference, averaged over tasks on each seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evosearch.evaluation.results import MIN_DEVIATION, Difference, Evaluation, Fitness, TaskReport
from evosearch.evaluation.standings import standings
from evosearch.statistics import Interval, holm, interval, log_ratio, p_value

_Comparison = tuple[str | None, str, str]
"""A task (None for the mean over all tasks), a contender and a reference."""


def compare(
    reports: Sequence[TaskReport], references: Sequence[str], tuning_seeds: int
) -> Evaluation:
    """Return the evaluation with all comparisons tested at one error rate.

    Every contender is compared with the first reference. Contenders that are not references are
    also compared with the other references.

    Args:
        reports: the results of each task, not compared yet.
        references: names of the references.
        tuning_seeds: number of seeds of each tuning trial, for the record.
    """
    first = references[0]
    contenders = [result.program for result in reports[0].results]
    pairs = [(name, first) for name in contenders if name != first]
    pairs += [(n, other) for n in contenders if n not in references for other in references[1:]]
    differences: dict[_Comparison, list[float]] = {}
    for report in reports:
        losses = {result.program: result.losses for result in report.results}
        for name, other in pairs:
            paired = list(map(log_ratio, losses[name], losses[other]))
            differences[report.task, name, other] = paired
    overall = contenders if len(reports) > 1 else []
    for name in overall:
        if name != first:
            by_task = [differences[report.task, name, first] for report in reports]
            differences[None, name, first] = [float(mean) for mean in np.mean(by_task, axis=0)]
    tested = _test_differences(differences)
    tasks = [report.task for report in reports]
    compared = [_with_differences(report, references, tested) for report in reports]
    mean_differences = {name: tested[None, name, first] for name in overall if name != first}
    return Evaluation(
        tuple(compared),
        tuple(_fitness(name, first, tasks, tested) for name in overall),
        tuple(standings(compared, first, mean_differences)) if overall else (),
        first,
        tuning_seeds,
        len(tested),
    )


def _test_differences(
    differences: Mapping[_Comparison, Sequence[float]],
) -> dict[_Comparison, Difference]:
    p_values = [p_value(paired, MIN_DEVIATION) for paired in differences.values()]
    return {
        comparison: Difference(interval(paired, MIN_DEVIATION), p, p_holm)
        for (comparison, paired), p, p_holm in zip(
            differences.items(), p_values, holm(p_values), strict=True
        )
    }


def _with_differences(
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
