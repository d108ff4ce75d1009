"""Scores, estimates and intervals: what may be concluded from measurements.

The fitness of one measurement is log(baseline loss / loss) on the same task and seed, clipped to
+-log 4, with divergence at -log 4; the score of a seed is the mean over tasks. 0 is tuned AdamW and
+0.1 is about 10% lower loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LARGEST_SCORE = math.log(4.0)


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def score(loss: float, baseline: float) -> float:
    """log(baseline / loss), clipped to +-log 4; a loss that is not finite has the worst score."""
    if not math.isfinite(loss):
        return -LARGEST_SCORE
    if loss <= 0:
        return LARGEST_SCORE
    return min(LARGEST_SCORE, max(-LARGEST_SCORE, math.log(baseline / loss)))


def standard_error(scores: Sequence[float], noise_floor: float) -> float:
    """Standard error of the mean; a least deviation keeps few scores from looking sure."""
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return max(deviation, noise_floor) / math.sqrt(len(scores))


def interval(scores: Sequence[float], noise_floor: float, level: float = 0.95) -> Interval:
    """Student's t interval of the mean, with a least standard deviation of `noise_floor`.

    A single score is treated as one of two, so that its interval is wide and not infinite.
    """
    mean = float(np.mean(scores))
    quantile = stats.t.ppf(0.5 + level / 2, max(1, len(scores) - 1))
    half = float(quantile) * standard_error(scores, noise_floor)
    return Interval(mean, mean - half, mean + half)


def lower_bound(differences: Sequence[float], error: float) -> float:
    """One-sided lower confidence bound of a mean at error rate `error` (Student's t).

    Identical differences, as of a program with itself, give their common value.
    """
    mean = float(np.mean(differences))
    deviation = float(np.std(differences, ddof=1))
    quantile = float(stats.t.ppf(1 - error, len(differences) - 1))
    return mean - quantile * deviation / math.sqrt(len(differences))


def spent_error(rate: float, test: int) -> float:
    """The error rate of test number 1, 2, ...: rate / (j (j + 1)), which sums to `rate`."""
    return rate / (test * (test + 1))
