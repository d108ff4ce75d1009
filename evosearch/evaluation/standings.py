"""Contenders over a suite of tasks: wins, ranks, and the ratio of losses with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from evosearch.evaluation.results import MIN_DEVIATION, Difference, Standing, TaskReport
from evosearch.statistics import Interval, holm, log_loss, log_ratio, p_value
from evosearch.verdicts import difference_verdict

_RESAMPLES = 10_000
"""Number of bootstrap samples."""


def standings(
    reports: Sequence[TaskReport], reference: str, mean_differences: Mapping[str, Difference]
) -> list[Standing]:
    """Return the standing of each contender relative to `reference`, the best ratio first.

    Args:
        reports: report of each task, with differences.
        reference: name of the contender to compare with.
        mean_differences: for each other contender, the mean over all tasks of the contender's
            difference, tested over seeds.
    """
    names = [result.program for result in reports[0].results]
    ranks = np.mean([_ranks(report) for report in reports], axis=0)
    tables = [
        np.array([_log_ratios(report, index, reference) for report in reports])
        for index in range(len(names))
    ]
    p_values = _p_values_over_tasks({name: tables[names.index(name)] for name in mean_differences})
    rows = []
    for index, name in enumerate(names):
        verdicts = [_verdict(report, index, reference) for report in reports]
        wins, losses = verdicts.count("better"), verdicts.count("worse")
        ties = len(reports) - wins - losses
        rank, ratio = float(ranks[index]), _ratio(tables[index])
        verdict_on_tasks = None
        if name in mean_differences:
            verdict_on_tasks = difference_verdict(
                mean_differences[name].interval.mean, mean_differences[name].p_holm
            )
        p_holm = p_values.get(name)
        rows.append(Standing(name, wins, losses, ties, rank, ratio, verdict_on_tasks, p_holm))
    return sorted(rows, key=lambda standing: standing.ratio.mean)


def _p_values_over_tasks(tables: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the corrected p-value of each contender's mean log ratio, with tasks as samples."""
    p_values = [p_value(list(table.mean(axis=1)), MIN_DEVIATION) for table in tables.values()]
    return dict(zip(tables, holm(p_values), strict=True))


def _ranks(report: TaskReport) -> np.ndarray:
    from scipy.stats import rankdata  # its import is slow

    means = [float(np.mean([log_loss(x) for x in result.losses])) for result in report.results]
    return np.asarray(rankdata(means))


def _verdict(report: TaskReport, index: int, reference: str) -> str:
    difference = report.results[index].versus.get(reference)
    return "the reference" if difference is None else difference.verdict


def _log_ratios(report: TaskReport, index: int, reference: str) -> list[float]:
    """Return the paired log ratio on each seed."""
    reference_losses = next(
        result.losses for result in report.results if result.program == reference
    )
    return list(map(log_ratio, report.results[index].losses, reference_losses))


def _ratio(table: np.ndarray) -> Interval:
    """Return the geometric mean ratio and its bootstrap interval.

    Args:
        table: log ratios, `[tasks, seeds]`.
    """
    tasks, seeds = table.shape
    rng = np.random.default_rng(0)  # the same data always give the same interval
    drawn = rng.integers(tasks, size=(_RESAMPLES, tasks, 1))
    means = table[drawn, rng.integers(seeds, size=(_RESAMPLES, tasks, seeds))].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(*(math.exp(x) for x in (table.mean(), low, high)))
