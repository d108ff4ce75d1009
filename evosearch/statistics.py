"""Scores, estimates and intervals: what may be concluded from measurements.

The fitness of one measurement is log(baseline loss / loss) on the same task and seed, clipped to
+-log 4, with divergence at -log 4; the score of a seed is the mean over tasks, each bounded above.
0 is tuned AdamW and +0.1 is about 10% lower loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes seconds to import

LARGEST_SCORE = math.log(4.0)
SMALLEST_LOSS = float(np.finfo(np.float32).tiny)
"""A loss below this counts as this, so that a perfect one has a logarithm."""


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def score(loss: float, baseline: float) -> float:
    """log(baseline / loss), clipped to +-log 4; a loss that is not finite has the worst score."""
    return -log_ratio(loss, baseline) if math.isfinite(loss) else -LARGEST_SCORE


def bounded_mean(scores: Mapping[str, float], largest_gain: float) -> float:
    """The score of a seed: the mean over tasks, in which each counts at most `largest_gain`.

    So no single task carries a program; losses count in full.
    """
    return sum(min(one, largest_gain) for one in scores.values()) / len(scores)


def log_loss(loss: float) -> float:
    """The logarithm of a loss; +inf if it diverged."""
    return math.log(max(loss, SMALLEST_LOSS)) if math.isfinite(loss) else math.inf


def log_ratio(loss: float, reference: float) -> float:
    """log(loss / reference), clipped to +-log 4: the paired difference of two losses on a seed.

    Divergence counts as the clip, on either side; two that both diverged are equal.
    """
    difference = log_loss(loss) - log_loss(reference)
    if math.isnan(difference):
        return 0.0
    return min(LARGEST_SCORE, max(-LARGEST_SCORE, difference))


def standard_error(scores: Sequence[float], noise_floor: float) -> float:
    """Standard error of the mean; a least deviation keeps few scores from looking sure."""
    count = len(scores)
    mean = sum(scores) / count
    deviation = math.sqrt(sum((one - mean) ** 2 for one in scores) / max(1, count - 1))
    return max(deviation, noise_floor) / math.sqrt(count)


def interval(scores: Sequence[float], noise_floor: float, level: float = 0.95) -> Interval:
    """Student's t interval of the mean, with a least standard deviation of `noise_floor`.

    A single score is treated as one of two, so that its interval is wide and not infinite.
    """
    mean = float(np.mean(scores))
    quantile = stdtrit(max(1, len(scores) - 1), 0.5 + level / 2)
    half = float(quantile) * standard_error(scores, noise_floor)
    return Interval(mean, mean - half, mean + half)


def stratified_interval(
    strata: Sequence[Sequence[float]], noise_floor: float, level: float = 0.95
) -> Interval:
    """Student's t interval of the mean of the strata's means, such as tasks with several seeds.

    Each stratum has noise of its own, so there are as many squared deviations to judge the error by
    as scores less strata, at most (Satterthwaite 1946, Biometrics Bulletin 2:110); means over tasks
    would leave one less than there are seeds. A single score is treated as in `interval`.

    Args:
        strata: the scores of each.
        noise_floor: the least standard deviation assumed of a mean over strata of single scores.
        level: chance that the interval covers the truth.
    """
    variances = [standard_error(scores, 0.0) ** 2 for scores in strata]
    degrees = [max(1, len(scores) - 1) for scores in strata]
    squares = sum(variance**2 / own for variance, own in zip(variances, degrees, strict=True))
    freedom = sum(variances) ** 2 / squares if squares else sum(degrees)
    least = noise_floor / math.sqrt(min(map(len, strata)))
    error = max(math.sqrt(sum(variances)) / len(strata), least)
    mean = float(np.mean([np.mean(scores) for scores in strata]))
    half = float(stdtrit(freedom, 0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half)


def lower_bound(differences: Sequence[float], error: float) -> float:
    """One-sided lower confidence bound of a mean at error rate `error` (Student's t).

    Identical differences, as of a program with itself, give their common value.
    """
    mean = float(np.mean(differences))
    deviation = float(np.std(differences, ddof=1))
    quantile = float(stdtrit(len(differences) - 1, 1 - error))
    return mean - quantile * deviation / math.sqrt(len(differences))


def spent_error(rate: float, test: int) -> float:
    """The error rate of test number 1, 2, ...: rate / (j (j + 1)), which sums to `rate`."""
    return rate / (test * (test + 1))


def p_value(differences: Sequence[float], noise_floor: float) -> float:
    """Two-sided p-value of a mean of 0 (Student's t), with the least deviation of `interval`."""
    ratio = abs(float(np.mean(differences))) / standard_error(differences, noise_floor)
    return float(2 * stdtr(len(differences) - 1, -ratio))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for one another; the chance of any false one below a is at most a.

    The i-th smallest of n is multiplied by n - i + 1, and none is below a smaller one's
    (Holm 1979, Scandinavian Journal of Statistics 6:65).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
