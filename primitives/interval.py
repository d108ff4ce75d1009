"""Intervals, and what ops make of them: the arithmetic of the interval analysis.

A map takes the intervals of an op's operands to one that holds every result. Maps are for real
numbers; `float32` then rounds the bounds as the values themselves are rounded. NaN is outside the
claim. An open end is claimed where rounding cannot close it: x + y > 0 for x > 0 and y >= 0, but
not x * y > 0, which may underflow.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_INF = math.inf
_TINY = float(np.finfo(np.float32).tiny)
_HUGE = float(np.finfo(np.float32).max)


class Interval(NamedTuple):
    """The numbers from `low` to `high`; `above` and `below` exclude the lower and upper end."""

    low: float = -_INF
    high: float = _INF
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        if value == self.low or value == self.high:
            return not (self.above if value == self.low else self.below)
        return self.low < value < self.high

    def __str__(self) -> str:
        left = "(" if self.above or math.isinf(self.low) else "["
        right = ")" if self.below or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    @property
    def nonnegative(self) -> bool:
        """Never below zero."""
        return self.low >= 0

    @property
    def positive(self) -> bool:
        """Above zero."""
        return self.low > 0 or (self.low == 0 and self.above)

    @property
    def negative(self) -> bool:
        """Below zero."""
        return self.high < 0 or (self.high == 0 and self.below)

    @property
    def nonzero(self) -> bool:
        """Never zero."""
        return self.positive or self.negative

    @property
    def below_one(self) -> bool:
        """Below one."""
        return self.high < 1 or (self.high == 1 and self.below)

    @property
    def closed(self) -> Interval:
        """The interval with both ends."""
        return Interval(self.low, self.high)

    def join(self, other: Interval) -> Interval:
        """The smallest interval around both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        above = low not in self and low not in other
        below = high not in self and high not in other
        return Interval(low, high, above, below)


Map = Callable[..., Interval]
"""The interval of an op's results, from those of its operands."""

ANYTHING = Interval()
NONNEGATIVE = Interval(0.0)
POSITIVE = Interval(0.0, above=True)
NEGATIVE = Interval(high=0.0, below=True)
UNIT = Interval(0.0, 1.0)
DECAY = Interval(0.0, 1.0, below=True)
STEP = Interval(1.0)
"""Steps are counted from 1."""


def exactly(value: float) -> Interval:
    """The interval of one number."""
    return Interval(value, value)


def float32(held: Interval) -> Interval:
    """`held` with its bounds as float32, where subnormals may stay or count as zero."""
    low, high, above, below = held
    if math.isnan(low) or math.isnan(high):
        return ANYTHING
    least, most = _float32(low, -_INF), _float32(high, _INF)
    return Interval(least, most, above and least == low, below and most == high)


def _float32(bound: float, otherwise: float) -> float:
    if abs(bound) < _TINY:
        is_outward = bound * otherwise > 0
        return math.copysign(_TINY, bound) if is_outward else 0.0
    if abs(bound) > _HUGE:
        return _INF if bound > 0 else -_INF
    value = float(np.float32(bound))
    return otherwise if math.isnan(value) else value


def widened(before: Interval, after: Interval) -> Interval:
    """`after`, with the bounds that still moved thrown to the next of 0 and infinity."""
    low, high, above, below = after
    if low < before.low:
        low, above = (0.0 if low > 0 else -_INF), False
    if high > before.high:
        high, below = (0.0 if high < 0 else _INF), False
    return Interval(low, high, above, below)


# -- makers of maps -----------------------------------------------------------------------------


def within(low: float = -_INF, high: float = _INF) -> Map:
    """The map of an op whose results are from `low` to `high`, whatever its operands."""
    return lambda *operands: Interval(low, high)


def rising(f: Callable[[float], float], low: float = -_INF, high: float = _INF) -> Map:
    """The map of a function that rises from `low` to `high`."""

    def held(x: Interval) -> Interval:
        bottom = _safely(f, max(x.low, -_HUGE)) if x.low > -_INF else low
        top = _safely(f, x.high) if x.high < _INF else high
        return Interval(low if math.isnan(bottom) else bottom, high if math.isnan(top) else top)

    return held


def _safely(f: Callable[[float], float], x: float) -> float:
    try:
        return f(x)
    except OverflowError:
        return math.copysign(_INF, x)
    except ValueError:
        return math.nan


def _corners(f: Callable[[float, float], float], x: Interval, y: Interval) -> Interval:
    found = [f(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
    found = [0.0 if math.isnan(one) else one for one in found]  # 0 * inf: 0 if both are finite
    return Interval(min(found), max(found))


# -- maps -----------------------------------------------------------------------------------------


def same(x: Interval) -> Interval:
    """x, or a mean of numbers in x."""
    return x


def negative(x: Interval) -> Interval:
    """-x."""
    return Interval(-x.high, -x.low, x.below, x.above)


def absolute(x: Interval) -> Interval:
    """|x|."""
    if x.low >= 0:
        return x
    return negative(x) if x.high <= 0 else Interval(0.0, max(-x.low, x.high))


def add(x: Interval, y: Interval) -> Interval:
    """x + y."""
    low = x.low + y.low
    above = low == 0 and x.low == 0 and (x.positive or y.positive)
    return Interval(low, x.high + y.high, above)


def subtract(x: Interval, y: Interval) -> Interval:
    """x - y; in particular 1 - y, which is above 0 for y < 1 and below 1 for y > 0."""
    low, high = x.low - y.high, x.high - y.low
    is_one = x.low == x.high == 1
    return Interval(low, high, is_one and low == 0 and y.below, is_one and high == 1 and y.above)


def multiply(x: Interval, y: Interval) -> Interval:
    """x y, which may underflow."""
    return _corners(operator.mul, x, y)


def square(x: Interval) -> Interval:
    """x^2, which may underflow."""
    size = absolute(x)
    return Interval(_safely(lambda a: a * a, size.low), _safely(lambda a: a * a, size.high))


def square_root(x: Interval) -> Interval:
    """The root of x, where x is not negative; that of a positive number is positive."""
    held = rising(math.sqrt, 0.0)(x)
    return Interval(held.low, held.high, x.low == 0 and x.above, x.high == 1 and x.below)


def inverse(x: Interval) -> Interval:
    """1 / x, where 1 / 0 is 0."""
    if x.low == 0 and x.high == 0:
        return x
    if x.low > 0 or x.high < 0:
        return Interval(1 / x.high, 1 / x.low)
    if x.low >= 0:
        return Interval(1 / x.high) if x.positive else NONNEGATIVE
    if x.high <= 0:
        return Interval(high=1 / x.low) if x.negative else Interval(high=0.0)
    return ANYTHING


def divide(x: Interval, y: Interval) -> Interval:
    """x / y, where x / 0 is 0."""
    return multiply(x, inverse(y))


def power(x: Interval, y: Interval) -> Interval:
    """x to the y.

    That a number above 1 to a step underflows takes more than 1e9 steps at any exponent in use.
    """
    if y.low == y.high and y.low in (2.0, 4.0, 6.0):
        return NONNEGATIVE
    if x.low < 0:
        return ANYTHING
    if x.low == 0 or x.high == _INF or abs(y.low) == _INF or abs(y.high) == _INF:
        if x.high <= 1 and y.low >= 0:
            high = _power(x.high, y.low)
            return Interval(0.0, high, below=high == 1 and x.below_one and y.low >= 1)
        if x.low >= 1 and y.high <= 0:
            return Interval(0.0, 1.0, above=True)
        return STEP if x.low >= 1 and y.low >= 0 else NONNEGATIVE
    return _corners(_power, x, y)


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return _INF
    except ValueError:
        return 0.0


def maximum(x: Interval, y: Interval) -> Interval:
    """The larger of x and y."""
    low, high = max(x.low, y.low), max(x.high, y.high)
    return Interval(low, high, any(one.above and one.low == low for one in (x, y)))


def minimum(x: Interval, y: Interval) -> Interval:
    """The smaller of x and y."""
    low, high = min(x.low, y.low), min(x.high, y.high)
    below = any(one.below and one.high == high for one in (x, y))
    return Interval(low, high, x.join(y).above, below)


def clamp(x: Interval, low: Interval, high: Interval) -> Interval:
    """x kept within two bounds."""
    return minimum(maximum(x, low), high)


def clip(x: Interval, c: Interval) -> Interval:
    """Shrunk towards zero, or turned about where c is negative."""
    return Interval(min(x.low, 0.0), max(x.high, 0.0)) if c.low >= 0 else ANYTHING


def interp(x: Interval, y: Interval, a: Interval) -> Interval:
    """(1 - a) x + a y: between x and y for a in [0, 1]."""
    if not (a.low >= 0 and a.high <= 1):
        share = add(exactly(1.0), negative(a))
        return add(multiply(x, share), multiply(y, a))
    # a constant between 0 and 1 keeps the mean of two intervals exactly
    mean = add(multiply(x, exactly(1 - a.low)), multiply(y, a))
    held = x.join(y) if a.low < a.high else mean
    is_positive = held.low == 0 and x.positive and (y.positive or (y.low >= 0 and a.below_one))
    return Interval(held.low, held.high, is_positive)


def modulo(x: Interval, y: Interval) -> Interval:
    """A remainder has the sign of the divisor."""
    return Interval(min(y.low, 0.0), max(y.high, 0.0))


def sign(x: Interval) -> Interval:
    """-1, 0 or 1."""
    return Interval(float(np.sign(x.low)), float(np.sign(x.high)))


def choice(c: Interval, x: Interval, y: Interval) -> Interval:
    """One of x and y."""
    return x.join(y)
