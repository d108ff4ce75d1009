"""Interval arithmetic: bounds on the result of an op from bounds on its operands.

An interval map (`Map`) takes the intervals of an op's operands and returns an interval that
contains every result. Interval maps assume real arithmetic; `float32` then rounds the bounds
outward. A result may be NaN in spite of its interval. An end is open only if rounding cannot give
its value: x + y > 0 holds for x > 0 and y >= 0, but x * y > 0 does not hold for x > 0 and y > 0,
because the product may underflow.
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
    """An interval of numbers.

    Attributes:
        low: lower bound; minus infinity by default.
        high: upper bound; infinity by default.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded.
    """

    low: float = -_INF
    high: float = _INF
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        if value == self.low or value == self.high:
            return not (self.open_low if value == self.low else self.open_high)
        return self.low < value < self.high

    def __str__(self) -> str:
        left = "(" if self.open_low or math.isinf(self.low) else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    @property
    def nonnegative(self) -> bool:
        """Whether no number in the interval is negative."""
        return self.low >= 0

    @property
    def positive(self) -> bool:
        """Whether all numbers in the interval are above zero."""
        return self.low > 0 or (self.low == 0 and self.open_low)

    @property
    def negative(self) -> bool:
        """Whether all numbers in the interval are below zero."""
        return self.high < 0 or (self.high == 0 and self.open_high)

    @property
    def nonzero(self) -> bool:
        """Whether all numbers are positive or all are negative."""
        return self.positive or self.negative

    @property
    def below_one(self) -> bool:
        """Whether all numbers in the interval are below one."""
        return self.high < 1 or (self.high == 1 and self.open_high)

    @property
    def closed(self) -> Interval:
        """The interval with both ends included."""
        return Interval(self.low, self.high)

    def join(self, other: Interval) -> Interval:
        """Return the smallest interval that contains this interval and `other`."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        open_low = low not in self and low not in other
        open_high = high not in self and high not in other
        return Interval(low, high, open_low, open_high)


Map = Callable[..., Interval]
"""A function from the intervals of an op's operands to the interval of its results."""

ANYTHING = Interval()
NONNEGATIVE = Interval(0.0)
POSITIVE = Interval(0.0, open_low=True)
NEGATIVE = Interval(high=0.0, open_high=True)
UNIT = Interval(0.0, 1.0)
DECAY = Interval(0.0, 1.0, open_high=True)
STEP = Interval(1.0)
"""The interval of `t`, the step, which is counted from 1."""


def exactly(value: float) -> Interval:
    """Return the interval that contains only `value`."""
    return Interval(value, value)


def float32(interval: Interval) -> Interval:
    """Round the bounds of an interval to float32.

    The result is correct both if subnormal numbers are kept and if they are flushed to zero. The
    result is `ANYTHING` if a bound is NaN.
    """
    low, high, open_low, open_high = interval
    if math.isnan(low) or math.isnan(high):
        return ANYTHING
    new_low, new_high = _float32(low, -_INF), _float32(high, _INF)
    return Interval(new_low, new_high, open_low and new_low == low, open_high and new_high == high)


def _float32(bound: float, outward: float) -> float:
    """Round a bound to float32; `outward` is the infinity on the bound's outer side."""
    if abs(bound) < _TINY:
        is_outward = bound * outward > 0
        return math.copysign(_TINY, bound) if is_outward else 0.0
    if abs(bound) > _HUGE:
        return _INF if bound > 0 else -_INF
    value = float(np.float32(bound))
    return outward if math.isnan(value) else value


def widen(before: Interval, after: Interval) -> Interval:
    """Move each bound of `after` that differs from `before` outward, to 0 or to infinity."""
    low, high, open_low, open_high = after
    if low < before.low:
        low, open_low = (0.0 if low > 0 else -_INF), False
    if high > before.high:
        high, open_high = (0.0 if high < 0 else _INF), False
    return Interval(low, high, open_low, open_high)


# -- functions that return interval maps ----------------------------------------------------------


def within(low: float = -_INF, high: float = _INF) -> Map:
    """Return the map of an op whose results always lie between `low` and `high`."""
    return lambda *operands: Interval(low, high)


def rising(f: Callable[[float], float], low: float = -_INF, high: float = _INF) -> Map:
    """Return the map of an increasing function with values between `low` and `high`."""

    def interval_map(x: Interval) -> Interval:
        bottom = _evaluate(f, max(x.low, -_HUGE)) if x.low > -_INF else low
        top = _evaluate(f, x.high) if x.high < _INF else high
        return Interval(low if math.isnan(bottom) else bottom, high if math.isnan(top) else top)

    return interval_map


def _evaluate(f: Callable[[float], float], x: float) -> float:
    """Evaluate `f` at `x`; overflow gives infinity with the sign of `x`, a domain error NaN."""
    try:
        return f(x)
    except OverflowError:
        return math.copysign(_INF, x)
    except ValueError:
        return math.nan


def _corners(f: Callable[[float, float], float], x: Interval, y: Interval) -> Interval:
    values = [f(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
    # 0 * inf is NaN: an infinite bound means arbitrarily large finite numbers, so the product is 0
    values = [0.0 if math.isnan(value) else value for value in values]
    return Interval(min(values), max(values))


# -- interval maps of ops -------------------------------------------------------------------------


def same(x: Interval) -> Interval:
    """Interval map of the identity and of means."""
    return x


def negative(x: Interval) -> Interval:
    """Interval map of -x."""
    return Interval(-x.high, -x.low, x.open_high, x.open_low)


def absolute(x: Interval) -> Interval:
    """Interval map of |x|."""
    if x.low >= 0:
        return x
    return negative(x) if x.high <= 0 else Interval(0.0, max(-x.low, x.high))


def add(x: Interval, y: Interval) -> Interval:
    """Interval map of x + y."""
    low = x.low + y.low
    open_low = low == 0 and x.low == 0 and (x.positive or y.positive)
    return Interval(low, x.high + y.high, open_low)


def subtract(x: Interval, y: Interval) -> Interval:
    """Interval map of x - y. For x = 1 the ends are open: 1 - y > 0 if y < 1, and < 1 if y > 0."""
    low, high = x.low - y.high, x.high - y.low
    is_one = x.low == x.high == 1
    return Interval(
        low, high, is_one and low == 0 and y.open_high, is_one and high == 1 and y.open_low
    )


def multiply(x: Interval, y: Interval) -> Interval:
    """Interval map of x * y, which may underflow to 0."""
    return _corners(operator.mul, x, y)


def square(x: Interval) -> Interval:
    """Interval map of x^2, which may underflow to 0."""
    size = absolute(x)
    return Interval(_evaluate(lambda a: a * a, size.low), _evaluate(lambda a: a * a, size.high))


def square_root(x: Interval) -> Interval:
    """Interval map of sqrt(x) for x >= 0. The root of a positive float32 is positive."""
    root = rising(math.sqrt, 0.0)(x)
    return Interval(root.low, root.high, x.low == 0 and x.open_low, x.high == 1 and x.open_high)


def inverse(x: Interval) -> Interval:
    """Interval map of 1 / x, where 1 / 0 is 0."""
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
    """Interval map of x / y, where x / 0 is 0."""
    return multiply(x, inverse(y))


def power(x: Interval, y: Interval) -> Interval:
    """Interval map of x^y.

    The bounds ignore one case of underflow: a negative power of the step, such as t^-0.8, becomes 0
    only after more than 1e9 steps.
    """
    if y.low == y.high and y.low in (2.0, 4.0, 6.0):
        return NONNEGATIVE
    if x.low < 0:
        return ANYTHING
    if x.low == 0 or x.high == _INF or abs(y.low) == _INF or abs(y.high) == _INF:
        if x.high <= 1 and y.low >= 0:
            high = _power(x.high, y.low)
            return Interval(0.0, high, open_high=high == 1 and x.below_one and y.low >= 1)
        if x.low >= 1 and y.high <= 0:
            return Interval(0.0, 1.0, open_low=True)
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
    """Interval map of max(x, y)."""
    low, high = max(x.low, y.low), max(x.high, y.high)
    return Interval(low, high, any(operand.open_low and operand.low == low for operand in (x, y)))


def minimum(x: Interval, y: Interval) -> Interval:
    """Interval map of min(x, y)."""
    low, high = min(x.low, y.low), min(x.high, y.high)
    open_high = any(operand.open_high and operand.high == high for operand in (x, y))
    return Interval(low, high, x.join(y).open_low, open_high)


def clamp(x: Interval, low: Interval, high: Interval) -> Interval:
    """Interval map of min(max(x, low), high)."""
    return minimum(maximum(x, low), high)


def clip(x: Interval, c: Interval) -> Interval:
    """Interval map of scaling x down to norm `c`: towards zero, unless `c` is negative."""
    return Interval(min(x.low, 0.0), max(x.high, 0.0)) if c.low >= 0 else ANYTHING


def interp(x: Interval, y: Interval, a: Interval) -> Interval:
    """Interval map of (1 - a) x + a y, which is between x and y for a in [0, 1]."""
    if not (a.low >= 0 and a.high <= 1):
        weight_of_x = add(exactly(1.0), negative(a))
        return add(multiply(x, weight_of_x), multiply(y, a))
    # for a single a in [0, 1], the bounds are the weighted means of the operands' bounds
    mean = add(multiply(x, exactly(1 - a.low)), multiply(y, a))
    bounds = x.join(y) if a.low < a.high else mean
    is_positive = bounds.low == 0 and x.positive and (y.positive or (y.low >= 0 and a.below_one))
    return Interval(bounds.low, bounds.high, is_positive)


def modulo(x: Interval, y: Interval) -> Interval:
    """Interval map of x modulo y, which has the sign of y."""
    return Interval(min(y.low, 0.0), max(y.high, 0.0))


def sign(x: Interval) -> Interval:
    """Interval map of sign(x)."""
    return Interval(float(np.sign(x.low)), float(np.sign(x.high)))


def choice(c: Interval, x: Interval, y: Interval) -> Interval:
    """Interval map of a choice between x and y."""
    return x.join(y)
