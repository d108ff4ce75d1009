"""Scores, confidence intervals, p-values and error rates.

The score of a measurement is log(baseline's loss / loss) on the same task and seed, clipped to
+-log 4; a diverged training scores -log 4. The score of a seed is the mean over tasks, with the
score of each task capped. 0 is tuned AdamW, and +0.1 is about 10% lower loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes seconds to import

LARGEST_SCORE = math.log(4.0)
"""Absolute value at which scores are clipped."""
SMALLEST_LOSS = float(np.finfo(np.float32).tiny)
"""Lower bound of losses, so that a loss of 0 has a logarithm."""


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def score(loss: float, baseline: float) -> float:
    """Return log(baseline / loss), clipped to +-log 4; -log 4 if the loss is not finite."""
    return -log_ratio(loss, baseline) if math.isfinite(loss) else -LARGEST_SCORE


def bounded_mean(scores: Mapping[str, float], largest_gain: float) -> float:
    """Return the score of a seed: the mean over tasks of min(score, `largest_gain`).

    The cap keeps a single task from dominating the mean. Negative scores are not capped.
    """
    return sum(min(score, largest_gain) for score in scores.values()) / len(scores)


def log_loss(loss: float) -> float:
    """Return the logarithm of a loss; +inf if it is not finite."""
    return math.log(max(loss, SMALLEST_LOSS)) if math.isfinite(loss) else math.inf


def log_ratio(loss: float, reference: float) -> float:
    """Return log(loss / reference), clipped to +-log 4: the paired difference on a seed.

    If one of the losses is not finite, the result is +log 4 or -log 4; if both are not, it is 0.
    """
    difference = log_loss(loss) - log_loss(reference)
    if math.isnan(difference):
        return 0.0
    return min(LARGEST_SCORE, max(-LARGEST_SCORE, difference))


def standard_error(scores: Sequence[float], noise_floor: float) -> float:
    """Return the standard error of the mean.

    `noise_floor` is the minimum of the standard deviation, since few scores can agree by chance.
    """
    count = len(scores)
    mean = sum(scores) / count
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / max(1, count - 1))
    return max(deviation, noise_floor) / math.sqrt(count)


def interval(scores: Sequence[float], noise_floor: float, level: float = 0.95) -> Interval:
    """Return Student's t interval of the mean.

    The interval of a single score is wide but finite: it has one degree of freedom, as for two
    scores, and the standard deviation `noise_floor`.

    Args:
        scores: one for each seed.
        noise_floor: minimum standard deviation of the scores.
        level: probability that the interval contains the true mean.
    """
    mean = float(np.mean(scores))
    quantile = stdtrit(max(1, len(scores) - 1), 0.5 + level / 2)
    half_width = float(quantile) * standard_error(scores, noise_floor)
    return Interval(mean, mean - half_width, mean + half_width)


def stratified_interval(
    strata: Sequence[Sequence[float]], noise_floor: float, level: float = 0.95
) -> Interval:
    """Return Student's t interval of the mean of the means of strata.

    A stratum is, for example, a task with several seeds. Each stratum has its own variance. The
    degrees of freedom are Satterthwaite's: at most the number of scores less the number of strata.
    `interval` of the means over tasks would have only the number of seeds less one.

    Args:
        strata: the scores of each stratum; a single score is treated as in `interval`.
        noise_floor: minimum standard deviation of a mean over strata with one score each.
        level: probability that the interval contains the true mean.

    References:
        Satterthwaite 1946, Biometrics Bulletin 2:110.
    """
    variances = [standard_error(scores, 0.0) ** 2 for scores in strata]
    degrees = [max(1, len(scores) - 1) for scores in strata]
    squares = sum(variance**2 / count for variance, count in zip(variances, degrees, strict=True))
    total_degrees = sum(variances) ** 2 / squares if squares else sum(degrees)
    floor = noise_floor / math.sqrt(min(map(len, strata)))
    error = max(math.sqrt(sum(variances)) / len(strata), floor)
    mean = float(np.mean([np.mean(scores) for scores in strata]))
    half_width = float(stdtrit(total_degrees, 0.5 + level / 2)) * error
    return Interval(mean, mean - half_width, mean + half_width)


def lower_bound(differences: Sequence[float], error: float) -> float:
    """Return the one-sided lower confidence bound of a mean at error rate `error` (Student's t).

    If all differences are equal, the bound is their common value.
    """
    mean = float(np.mean(differences))
    deviation = float(np.std(differences, ddof=1))
    quantile = float(stdtrit(len(differences) - 1, 1 - error))
    return mean - quantile * deviation / math.sqrt(len(differences))


def spent_error(rate: float, test: int) -> float:
    """Return the error rate of test number j = 1, 2, ...: rate / (j (j + 1)); the sum is `rate`."""
    return rate / (test * (test + 1))


def p_value(differences: Sequence[float], noise_floor: float) -> float:
    """Return the two-sided p-value of a zero mean (Student's t); `noise_floor` as in `interval`."""
    ratio = abs(float(np.mean(differences))) / standard_error(differences, noise_floor)
    return float(2 * stdtr(len(differences) - 1, -ratio))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's correction for multiple comparisons.

    The i-th smallest of n p-values is multiplied by n - i + 1; the results keep the order of the
    p-values. If all hypotheses hold, the probability that any result is below a is at most a.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
