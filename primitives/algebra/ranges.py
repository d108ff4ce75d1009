"""What interval a value lies in, over all steps, as an abstract domain.

The interval of a value holds every number that float32 arithmetic can give it; NaN is outside the
claim. Bounds are rounded to float32 as the values themselves are. What is below the smallest normal
number may stay or count as zero, as the machine likes, so an interval holds both, and one without
zero is a proof that a division is safe.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from primitives.algebra.terms import LEAF, Graph, Term
from primitives.kinds import Kind

_INF = math.inf
_TINY = float(np.finfo(np.float32).tiny)
_HUGE = float(np.finfo(np.float32).max)
_WIDEN_AFTER = 4


class Range(NamedTuple):
    """The closed interval from `low` to `high`."""

    low: float = -_INF
    high: float = _INF

    @property
    def nonnegative(self) -> bool:
        """Never below zero."""
        return self.low >= 0

    @property
    def positive(self) -> bool:
        """Above zero."""
        return self.low > 0

    @property
    def negative(self) -> bool:
        """Below zero."""
        return self.high < 0

    @property
    def nonzero(self) -> bool:
        """Never zero."""
        return self.positive or self.negative

    def join(self, other: Range) -> Range:
        """The smallest interval around both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


_Rule: TypeAlias = Callable[..., Range]
Intervals: TypeAlias = dict[tuple[tuple[str, Range], ...], dict[Term, Range]]
"""The intervals of terms, by those of the states that they are made of."""

ALL = Range()
_NONNEGATIVE = Range(0.0, _INF)
_UNIT = Range(-1.0, 1.0)
_INPUTS = {"lr": _NONNEGATIVE, "t": Range(1.0, _INF)}
"""A schedule's shape is not negative; steps are counted from 1."""


class Ranges:
    """The interval of each term of `graph`, and of terms made of its leaves.

    Attributes:
        states: the interval of each state, over all steps.

    Args:
        graph: the graph.
        known: intervals that were found before, for the terms that graphs have in common.
    """

    def __init__(self, graph: Graph, known: Intervals):
        self._known = known
        self._of: dict[Term, Range] = {}
        self.states: dict[str, Range] = {}
        self._hold(self._states(graph))

    def __call__(self, term: Term) -> Range:
        """The interval of `term`."""
        known = self._of.get(term)
        if known is None:
            known = self._of[term] = self._range(term)
        return known

    def _hold(self, held: dict[str, Range]) -> None:
        self.states = held
        self._of = self._known.setdefault(tuple(held.items()), {})

    def _states(self, graph: Graph) -> dict[str, Range]:
        """Intervals that hold before and after each step: grown until they do, then to infinity."""
        held = {s.name: _rounded(s.initial, s.initial) for s in graph.states}
        for attempt in range(_WIDEN_AFTER + 2 * len(held) + 2):
            self._hold(held)
            grown = {name: held[name].join(self(term)) for name, term in graph.following.items()}
            if grown == held:
                return held
            if attempt >= _WIDEN_AFTER:
                grown = {name: _widened(held[name], grown[name]) for name in held}
            held = grown
        return dict.fromkeys(held, ALL)

    def _range(self, term: Term) -> Range:
        if term.is_constant:
            return _rounded(term.value, term.value)
        if term.op == LEAF:
            if term.kind == Kind.SCALAR and term.name not in self.states:
                return _INPUTS[term.name]
            return self.states.get(term.name, ALL)
        rule = _RULES.get(term.op)
        if rule is None:
            return ALL
        found = rule(term, *[self._of.get(arg) or self(arg) for arg in term.args])
        return _rounded(found.low, found.high)


def _widened(before: Range, after: Range) -> Range:
    """`after`, with the bounds that still moved thrown to the next of 0 and infinity."""
    low, high = after
    if low < before.low:
        low = 0.0 if low > 0 else -_INF
    if high > before.high:
        high = 0.0 if high < 0 else _INF
    return Range(low, high)


def _rounded(low: float, high: float) -> Range:
    if math.isnan(low) or math.isnan(high):
        return ALL
    return Range(_float32(low, -_INF), _float32(high, _INF))


def _float32(bound: float, otherwise: float) -> float:
    if abs(bound) < _TINY:
        is_outward = bound * otherwise > 0
        return math.copysign(_TINY, bound) if is_outward else 0.0
    if abs(bound) > _HUGE:
        return _INF if bound > 0 else -_INF
    value = float(np.float32(bound))
    return otherwise if math.isnan(value) else value


def _corners(f: Callable[[float, float], float], x: Range, y: Range) -> Range:
    found = [f(a, b) for a in x for b in y]
    found = [
        0.0 if math.isnan(value) else value for value in found
    ]  # 0 * inf: 0 if both are finite
    return Range(min(found), max(found))


def _product(x: Range, y: Range) -> Range:
    return _corners(operator.mul, x, y)


def _inverse(x: Range) -> Range:
    """1 / x, where 1 / 0 is 0."""
    if x.low == 0 and x.high == 0:
        return x
    if x.nonzero:
        return Range(1 / x.high, 1 / x.low)
    if x.low >= 0:
        return _NONNEGATIVE
    return Range(-_INF, 0.0) if x.high <= 0 else ALL


def _negative(x: Range) -> Range:
    return Range(-x.high, -x.low)


def _absolute(x: Range) -> Range:
    if x.low >= 0:
        return x
    return _negative(x) if x.high <= 0 else Range(0.0, max(-x.low, x.high))


def _sum(x: Range, y: Range) -> Range:
    return Range(x.low + y.low, x.high + y.high)


def _square(x: Range) -> Range:
    size = _absolute(x)
    return Range(_safely(lambda a: a * a, size.low), _safely(lambda a: a * a, size.high))


def _safely(f: Callable[[float], float], x: float) -> float:
    try:
        return f(x)
    except OverflowError:
        return _INF
    except ValueError:
        return math.nan


def _rising(f: Callable[[float], float], low: float = -_INF, high: float = _INF) -> _Rule:
    """The rule of a function that rises from `low` to `high`."""

    def rule(term: Term, x: Range) -> Range:
        bottom = _safely(f, max(x.low, -_HUGE)) if x.low > -_INF else low
        top = _safely(f, x.high) if x.high < _INF else high
        return Range(low if math.isnan(bottom) else bottom, high if math.isnan(top) else top)

    return rule


def _within(low: float, high: float) -> _Rule:
    return lambda term, *args: Range(low, high)


def _interp(term: Term, x: Range, y: Range, a: Range) -> Range:
    if a.low >= 0 and a.high <= 1:
        if a.low < a.high:
            return x.join(y)
        # a constant between 0 and 1 keeps the mean of two intervals exactly
        return _sum(_product(x, Range(1 - a.low, 1 - a.low)), _product(y, a))
    return _sum(_product(x, _sum(Range(1.0, 1.0), _negative(a))), _product(y, a))


def _power(term: Term, x: Range, y: Range) -> Range:
    if y.low == y.high and y.low in (2.0, 4.0, 6.0):
        return _NONNEGATIVE
    if x.low < 0:
        return ALL
    if x.low == 0 or x.high == _INF or abs(y.low) == _INF or abs(y.high) == _INF:
        if x.high <= 1 and y.low >= 0:
            return Range(0.0, _power_of(x.high, y.low))
        if x.low >= 1 and y.high <= 0:
            return Range(0.0, 1.0)
        return Range(1.0, _INF) if x.low >= 1 and y.low >= 0 else _NONNEGATIVE
    return _corners(_power_of, x, y)


def _power_of(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return _INF
    except ValueError:
        return 0.0


def _same(term: Term, *args: Range) -> Range:
    return args[0]


def _norm(term: Term, x: Range) -> Range:
    return _NONNEGATIVE


def _clip(term: Term, x: Range, c: Range) -> Range:
    """Shrunk towards zero, or turned about where c is negative."""
    if c.low >= 0:
        return Range(min(x.low, 0.0), max(x.high, 0.0))
    return ALL


def _clamp(term: Term, x: Range, low: Range, high: Range) -> Range:
    return _minimum(term, _maximum(term, x, low), high)


def _maximum(term: Term, x: Range, y: Range) -> Range:
    return Range(max(x.low, y.low), max(x.high, y.high))


def _minimum(term: Term, x: Range, y: Range) -> Range:
    return Range(min(x.low, y.low), min(x.high, y.high))


def _mod(term: Term, x: Range, y: Range) -> Range:
    return Range(min(y.low, 0.0), max(y.high, 0.0))


def _multiply(term: Term, x: Range, y: Range) -> Range:
    return _square(x) if term.args[0] is term.args[1] else _product(x, y)


def _sign(term: Term, x: Range) -> Range:
    return Range(float(np.sign(x.low)), float(np.sign(x.high)))


_RULES: dict[str, _Rule] = {
    "abs": lambda term, x: _absolute(x),
    "cos": _within(-1.0, 1.0),
    "sin": _within(-1.0, 1.0),
    "arcsin": _within(-1.5708, 1.5708),
    "arccos": _within(0.0, 3.1416),
    "arctan": _rising(math.atan, -1.5708, 1.5708),
    "exp": _rising(math.exp, 0.0),
    "log": _rising(math.log),
    "sinh": _rising(math.sinh),
    "cosh": _within(1.0, _INF),
    "tanh": _rising(math.tanh, -1.0, 1.0),
    "arcsinh": _rising(math.asinh),
    "arccosh": _within(0.0, _INF),
    "arctanh": _rising(math.atanh),
    "sign": _sign,
    "exp2": _rising(lambda x: math.pow(2.0, x), 0.0),
    "exp10": _rising(lambda x: math.pow(10.0, x), 0.0),
    "expm1": _rising(math.expm1, -1.0),
    "log10": _rising(math.log10),
    "log2": _rising(math.log2),
    "log1p": _rising(math.log1p),
    "square": lambda term, x: _square(x),
    "sqrt": _rising(math.sqrt, 0.0),
    "cube": _rising(lambda x: x * x * x),
    "cbrt": _rising(lambda x: math.copysign(abs(x) ** (1 / 3), x)),
    "reciprocal": lambda term, x: _inverse(x),
    "add": lambda term, x, y: _sum(x, y),
    "subtract": lambda term, x, y: _sum(x, _negative(y)),
    "multiply": _multiply,
    "divide": lambda term, x, y: _product(x, _inverse(y)),
    "power": _power,
    "maximum": _maximum,
    "minimum": _minimum,
    "norm": _norm,
    "global_norm": _norm,
    "rms": _norm,
    "cosine_sim": _within(-1.001, 1.001),
    "dot": lambda term, x, y: _NONNEGATIVE if term.args[0] is term.args[1] else ALL,
    "clip": _clip,
    "clip_by_rms": _clip,
    "interp": _interp,
    "negative": lambda term, x: _negative(x),
    "clamp": _clamp,
    "mod": _mod,
    "greater": _within(0.0, 1.0),
    "equal": _within(0.0, 1.0),
    "where": lambda term, c, x, y: x.join(y),
    "mean": _same,
    "row_mean": _same,
    "col_mean": _same,
    "matrix_mean": _same,
}
