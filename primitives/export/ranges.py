"""Which divisors can be zero: intervals of the values of a graph, for all inputs.

Hyperparameters range over what they may be, gradients and weights over everything, and states
over what follows from where they start. A product or quotient of small numbers may underflow, so
only numbers bounded away from 0 have a product that is proved nonzero. That `power(t, c)`
underflows for a step `t` is left out: it takes more than 1e9 steps at any exponent in use.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from primitives.export.values import Graph, Value
from primitives.graph.roles import Interval


class Range(NamedTuple):
    """Numbers from `low` to `high`; whether 0 and 1 are among them where they are within."""

    low: float = -math.inf
    high: float = math.inf
    zero: bool = True
    one: bool = True

    @property
    def nonzero(self) -> bool:
        """Proved to differ from 0."""
        return self.low > 0 or self.high < 0 or not self.zero

    @property
    def positive(self) -> bool:
        """Proved to be above 0."""
        return self.low >= 0 and self.nonzero

    @property
    def below_one(self) -> bool:
        """Proved to be below 1."""
        return self.high < 1 or (self.high == 1 and not self.one)


ANYTHING = Range()
NOT_NEGATIVE = Range(low=0.0)
UNIT = Range(0.0, 1.0)
STEP = Range(low=1.0)


def ranges(graph: Graph) -> dict[Value, Range]:
    """The range of every value of `graph`, and of what its states start with."""
    hyperparameters = {one.name: _of(one.interval) for one in graph.roles.hyperparameters}
    states = {state.old: _leaf(state.initial, hyperparameters) for state in graph.states}
    for attempt in range(8):
        found = _pass(graph, states, hyperparameters)
        following = {state.old: found[state.following] for state in graph.states}
        joined = {old: _join(known, following[old]) for old, known in states.items()}
        if joined == states:
            return found
        states = {old: _widen(states[old], new) if attempt else new for old, new in joined.items()}
    return _pass(graph, dict.fromkeys(states, ANYTHING), hyperparameters)


def _of(interval: Interval) -> Range:
    zero = 0.0 in interval
    return Range(interval.low, interval.high, zero, 1.0 in interval)


def _leaf(value: Value, hyperparameters: dict[str, Range]) -> Range:
    if value.op == "number":
        return Range(value.number, value.number, value.number == 0, value.number == 1)
    return hyperparameters[value.name]


def _pass(
    graph: Graph, states: dict[Value, Range], hyperparameters: dict[str, Range]
) -> dict[Value, Range]:
    found: dict[Value, Range] = dict(states)
    for value in graph.values():
        if value in found:
            continue
        if value.op in ("number", "hyperparameter"):
            found[value] = _leaf(value, hyperparameters)
        elif not value.args:
            found[value] = {"t": STEP, "lr": NOT_NEGATIVE}.get(value.op, ANYTHING)
        else:
            found[value] = _apply(value.op, [found[arg] for arg in value.args])
    return found


def _join(a: Range, b: Range) -> Range:
    return Range(
        min(a.low, b.low),
        max(a.high, b.high),
        not (a.nonzero and b.nonzero),
        not (_excludes_one(a) and _excludes_one(b)),
    )


def _excludes_one(a: Range) -> bool:
    return a.low > 1 or a.high < 1 or not a.one


def _widen(old: Range, new: Range) -> Range:
    low = old.low if new.low >= old.low else 0.0 if new.low >= 0 else -math.inf
    return Range(low, old.high if new.high <= old.high else math.inf, new.zero, new.one)


def _apply(op: str, args: list[Range]) -> Range:
    x, y = args[0], args[-1]
    match op:
        case "add":
            return _add(x, y)
        case "subtract":
            return _subtract(x, y)
        case "negative":
            return Range(-x.high, -x.low, x.zero)
        case "multiply":
            return _multiply(x, y)
        case "square" | "abs":
            low = max(x.low, -x.high, 0.0)
            high = max(abs(x.low), abs(x.high))
            if op == "abs":
                return Range(low, high, x.zero)
            return Range(low * low, high * high if high < 1e150 else math.inf)
        case "sqrt" if x.low >= 0:
            return Range(math.sqrt(x.low), math.sqrt(x.high), x.zero, x.one)
        case "sqrt" | "exp" | "exp2" | "exp10" | "norm" | "rms":
            return NOT_NEGATIVE
        case "cosh":
            return STEP
        case "divide" if x.low >= 0 and y.low >= 0:
            return NOT_NEGATIVE
        case "maximum":
            nonzero = x.positive or y.positive
            return Range(max(x.low, y.low), max(x.high, y.high), not nonzero)
        case "minimum":
            nonzero = x.positive and y.positive
            return Range(min(x.low, y.low), min(x.high, y.high), not nonzero)
        case "interp" | "ema":
            return _interp(*args)
        case "power":
            return _power(x, y)
        case "sign" | "tanh" | "sin" | "cos":
            return Range(-1.0, 1.0)
        case "greater" | "equal":
            return UNIT
        case "where":
            return _join(args[1], args[2])
        case "mean" | "row_mean" | "col_mean" | "matrix_mean" | "spread":
            return Range(x.low, x.high, x.zero or x.low < 0)
        case "total" if x.low >= 0:
            return NOT_NEGATIVE
        case "clip_scale" if y.low >= 0:
            return UNIT
    return ANYTHING


def _add(x: Range, y: Range) -> Range:
    nonzero = x.low >= 0 and y.low >= 0 and (x.positive or y.positive)
    return Range(x.low + y.low, x.high + y.high, not nonzero)


def _subtract(x: Range, y: Range) -> Range:
    """In particular 1 - y, which is nonzero for y < 1 and below 1 for y > 0."""
    if x.low == x.high == 1:
        return Range(1 - y.high, 1 - y.low, not y.below_one, not y.positive)
    return Range(x.low - y.high, x.high - y.low)


def _multiply(x: Range, y: Range) -> Range:
    ends = [a * b if a and b else 0.0 for a in (x.low, x.high) for b in (y.low, y.high)]
    return Range(min(ends), max(ends))


def _interp(x: Range, y: Range, a: Range) -> Range:
    """(1 - a) x + a y: between x and y for a in [0, 1]."""
    if a.low < 0 or a.high > 1:
        return ANYTHING
    low = min(x.low, y.low)
    nonzero = low >= 0 and x.positive and (y.positive or a.below_one)
    return Range(low, max(x.high, y.high), not nonzero)


def _power(x: Range, y: Range) -> Range:
    if x.low >= 1 and y.high <= 0:
        return Range(0.0, 1.0, zero=False)
    if x.low < 0:
        return ANYTHING
    if x.high <= 1 and y.low >= 0:
        return Range(0.0, 1.0, one=not (x.below_one and y.low > 0))
    return NOT_NEGATIVE
