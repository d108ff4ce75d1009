"""Significance tests of the differences between contenders.

All contenders train on the same seeds, so differences are paired: the difference on a seed is
log(loss / reference's loss), clipped to +-log 4. If only one of the two trainings diverges, the
difference is +-log 4; if both diverge, the difference is 0. Holm's correction (1979) covers all
comparisons of a report. Over several tasks, fitness is defined as in a search: minus the difference
to the first reference, averaged over tasks on each seed.
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
        reports: the report of each task, without differences.
        references: names of the references.
        tuning_seeds: number of seeds of each tuning trial, which the evaluation records.
    """
    first_reference, *other_references = references
    contenders = [result.program for result in reports[0].results]
    pairs = [(name, first_reference) for name in contenders if name != first_reference]
    pairs += [
        (name, reference)
        for name in contenders
        if name not in references
        for reference in other_references
    ]
    log_ratios: dict[_Comparison, list[float]] = {}  # one number for each seed
    for report in reports:
        losses = {result.program: result.losses for result in report.results}
        for name, reference in pairs:
            ratios = list(map(log_ratio, losses[name], losses[reference]))
            log_ratios[report.task, name, reference] = ratios
    compared_over_tasks = contenders if len(reports) > 1 else []
    for name in compared_over_tasks:
        if name != first_reference:
            by_task = [log_ratios[report.task, name, first_reference] for report in reports]
            means = [float(mean) for mean in np.mean(by_task, axis=0)]
            log_ratios[None, name, first_reference] = means
    differences = _test_differences(log_ratios)
    tasks = [report.task for report in reports]
    reports = [_with_differences(report, references, differences) for report in reports]
    mean_differences = {
        name: differences[None, name, first_reference]
        for name in compared_over_tasks
        if name != first_reference
    }
    return Evaluation(
        tuple(reports),
        tuple(_fitness(name, first_reference, tasks, differences) for name in compared_over_tasks),
        tuple(standings(reports, first_reference, mean_differences)) if compared_over_tasks else (),
        first_reference,
        tuning_seeds,
        len(differences),
    )


def _test_differences(
    log_ratios: Mapping[_Comparison, Sequence[float]],
) -> dict[_Comparison, Difference]:
    """Return interval and p-values of each comparison, from the log ratios on each seed."""
    p_values = [p_value(ratios, MIN_DEVIATION) for ratios in log_ratios.values()]
    return {
        comparison: Difference(interval(ratios, MIN_DEVIATION), p, p_holm)
        for (comparison, ratios), p, p_holm in zip(
            log_ratios.items(), p_values, holm(p_values), strict=True
        )
    }


def _with_differences(
    report: TaskReport, references: Sequence[str], differences: Mapping[_Comparison, Difference]
) -> TaskReport:
    """Return the report with the difference of each result to each reference."""
    results = []
    for result in report.results:
        comparisons = {name: (report.task, result.program, name) for name in references}
        versus = {name: differences[key] for name, key in comparisons.items() if key in differences}
        results.append(replace(result, versus=versus))
    return replace(report, results=tuple(results))


def _fitness(
    name: str, reference: str, tasks: Sequence[str], differences: Mapping[_Comparison, Difference]
) -> Fitness:
    """Return the fitness of a contender relative to a reference, over all tasks."""
    if name == reference:
        return Fitness(name, Interval(0.0, 0.0, 0.0), dict.fromkeys(tasks, 0.0), None)
    difference = differences[None, name, reference]
    mean, low, high = difference.interval
    per_task = {task: 0.0 - differences[task, name, reference].interval.mean for task in tasks}
    return Fitness(name, Interval(0.0 - mean, -high, -low), per_task, difference)
