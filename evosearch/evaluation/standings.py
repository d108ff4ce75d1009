"""Contenders over a suite of tasks: wins, ranks, and one ratio with an honest interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from evosearch.evaluation.results import ROUNDING, Difference, Standing, TaskReport
from evosearch.statistics import Interval, holm, log_loss, log_ratio, p_value
from evosearch.verdicts import difference_verdict

_RESAMPLES = 10_000


def standings(
    reports: Sequence[TaskReport], reference: str, on_these: Mapping[str, Difference]
) -> list[Standing]:
    """Every contender against `reference`, the best ratio first.

    Args:
        reports: one for each task; they hold their verdicts.
        reference: the contender that the others are compared with.
        on_these: of every other contender the difference over all these tasks, tested over seeds.
    """
    names = [result.program for result in reports[0].results]
    ranks = np.mean([_ranks(report) for report in reports], axis=0)
    tables = [
        np.array([_log_ratios(report, place, reference) for report in reports])
        for place in range(len(names))
    ]
    over_tasks = _over_tasks({name: tables[names.index(name)] for name in on_these})
    found = []
    for place, name in enumerate(names):
        verdicts = [_verdict(report, place, reference) for report in reports]
        wins, losses = verdicts.count("better"), verdicts.count("worse")
        ties = len(reports) - wins - losses
        rank, ratio = float(ranks[place]), _ratio(tables[place])
        here = None
        if name in on_these:
            here = difference_verdict(on_these[name].interval.mean, on_these[name].p_holm)
        p_holm = over_tasks.get(name)
        found.append(Standing(name, wins, losses, ties, rank, ratio, here, p_holm))
    return sorted(found, key=lambda standing: standing.ratio.mean)


def _over_tasks(tables: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By contender, the p-value of its mean log ratio, as one of all tasks there could be."""
    p_values = [p_value(list(table.mean(axis=1)), ROUNDING) for table in tables.values()]
    return dict(zip(tables, holm(p_values), strict=True))


def _ranks(report: TaskReport) -> np.ndarray:
    from scipy.stats import rankdata  # here, since it takes a while to import

    means = [float(np.mean([log_loss(x) for x in result.losses])) for result in report.results]
    return np.asarray(rankdata(means))


def _verdict(report: TaskReport, place: int, reference: str) -> str:
    difference = report.results[place].versus.get(reference)
    return "the reference" if difference is None else difference.verdict


def _log_ratios(report: TaskReport, place: int, reference: str) -> list[float]:
    """The paired log ratio on each seed."""
    others = next(result.losses for result in report.results if result.program == reference)
    return list(map(log_ratio, report.results[place].losses, others))


def _ratio(table: np.ndarray) -> Interval:
    """The geometric mean ratio and its bootstrap interval, from log ratios by task and seed."""
    tasks, seeds = table.shape
    rng = np.random.default_rng(0)  # the same data give the same interval
    drawn = rng.integers(tasks, size=(_RESAMPLES, tasks, 1))
    means = table[drawn, rng.integers(seeds, size=(_RESAMPLES, tasks, seeds))].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(*(math.exp(x) for x in (table.mean(), low, high)))
