"""Standings of contenders over a suite of tasks: wins, ranks and loss ratios with intervals."""

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
    mean_ranks = np.mean([_ranks(report) for report in reports], axis=0)
    log_ratios = [
        np.array([_log_ratios(report, index, reference) for report in reports])
        for index in range(len(names))
    ]
    p_values = _p_values_over_tasks(
        {name: log_ratios[names.index(name)] for name in mean_differences}
    )
    unsorted_standings = []
    for index, name in enumerate(names):
        verdicts = [_verdict(report, index, reference) for report in reports]
        wins, losses = verdicts.count("better"), verdicts.count("worse")
        verdict_on_measured_tasks = None
        if name in mean_differences:
            verdict_on_measured_tasks = difference_verdict(
                mean_differences[name].interval.mean, mean_differences[name].p_holm
            )
        unsorted_standings.append(
            Standing(
                program=name,
                wins=wins,
                losses=losses,
                ties=len(reports) - wins - losses,
                mean_rank=float(mean_ranks[index]),
                ratio=_ratio(log_ratios[index]),
                verdict_on_measured_tasks=verdict_on_measured_tasks,
                p_holm=p_values.get(name),
            )
        )
    return sorted(unsorted_standings, key=lambda standing: standing.ratio.mean)


def _p_values_over_tasks(log_ratios: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the corrected p-value of each contender's mean log ratio, with tasks as samples.

    Args:
        log_ratios: by contender, the log ratios `[tasks, seeds]`.
    """
    p_values = [p_value(list(ratios.mean(axis=1)), MIN_DEVIATION) for ratios in log_ratios.values()]
    return dict(zip(log_ratios, holm(p_values), strict=True))


def _ranks(report: TaskReport) -> np.ndarray:
    """Return the rank of each contender by mean log loss; 1 is the best."""
    from scipy.stats import rankdata  # its import is slow

    means = [float(np.mean(list(map(log_loss, result.losses)))) for result in report.results]
    return np.asarray(rankdata(means))


def _verdict(report: TaskReport, index: int, reference: str) -> str:
    """Return the verdict on the contender with the given index in the report."""
    difference = report.results[index].versus.get(reference)
    return "the reference" if difference is None else difference.verdict


def _log_ratios(report: TaskReport, index: int, reference: str) -> list[float]:
    """Return, for each seed, log(loss / reference's loss) of the contender with the given index."""
    reference_losses = next(
        result.losses for result in report.results if result.program == reference
    )
    return list(map(log_ratio, report.results[index].losses, reference_losses))


def _ratio(log_ratios: np.ndarray) -> Interval:
    """Return the geometric mean ratio and its bootstrap interval.

    Args:
        log_ratios: `[tasks, seeds]`.
    """
    tasks, seeds = log_ratios.shape
    rng = np.random.default_rng(0)  # a fixed seed: the same data always give the same interval
    drawn_tasks = rng.integers(tasks, size=(_RESAMPLES, tasks, 1))
    drawn_seeds = rng.integers(seeds, size=(_RESAMPLES, tasks, seeds))
    means = log_ratios[drawn_tasks, drawn_seeds].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(math.exp(log_ratios.mean()), math.exp(low), math.exp(high))
