"""Contenders over a suite of tasks: wins, ranks, and one ratio with an honest interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evosearch.evaluating.results import Standing, TaskReport
from evosearch.statistics import Interval, log_loss, log_ratio

_RESAMPLES = 10_000


def standings(reports: Sequence[TaskReport], reference: str) -> list[Standing]:
    """Every contender against `reference`, the best ratio first; reports hold their verdicts."""
    names = [result.program for result in reports[0].results]
    ranks = np.mean([_ranks(report) for report in reports], axis=0)
    found = []
    for place, name in enumerate(names):
        verdicts = [_verdict(report, place, reference) for report in reports]
        wins, losses = verdicts.count("better"), verdicts.count("worse")
        ties = len(reports) - wins - losses
        ratio = _ratio([_log_ratios(report, place, reference) for report in reports])
        found.append(Standing(name, wins, losses, ties, float(ranks[place]), ratio))
    return sorted(found, key=lambda standing: standing.ratio.mean)


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


def _ratio(by_task: Sequence[Sequence[float]]) -> Interval:
    """The geometric mean ratio and its bootstrap interval, from log ratios by task and seed."""
    table = np.array(by_task)
    tasks, seeds = table.shape
    rng = np.random.default_rng(0)  # the same data give the same interval
    drawn = rng.integers(tasks, size=(_RESAMPLES, tasks, 1))
    means = table[drawn, rng.integers(seeds, size=(_RESAMPLES, tasks, seeds))].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(*(math.exp(x) for x in (table.mean(), low, high)))
