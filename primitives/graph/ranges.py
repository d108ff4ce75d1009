"""Interval analysis: bounds on every value of a graph over all steps.

The interval of a state contains at first only the initial value, and is enlarged until the interval
no longer changes. An interval contains every number that float32 arithmetic can produce for a
value, both if subnormal numbers are kept and if they are flushed to zero. So a division by a value
whose interval does not contain zero is never a division by zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from primitives.graph.nodes import HYPERPARAMETER, STATE, Node
from primitives.interval import ANYTHING, NONNEGATIVE, STEP, Interval, exactly, float32, widen

_WIDEN_AFTER = 4
"""Number of iterations after which growing bounds of states are widened to 0 or infinity."""
_INPUTS = {"lr": NONNEGATIVE, "t": STEP}
"""Intervals of the schedule inputs; a learning-rate schedule is never negative."""

Intervals: TypeAlias = dict[tuple[tuple[str, Interval], ...], dict[Node, Interval]]
"""Cache of the intervals of nodes, for each assignment of intervals to states."""


class Ranges:
    """The intervals of a graph's nodes and of other nodes over the same leaves.

    Attributes:
        states: interval of each state over all steps.

    Args:
        starts: interval of the initial value of each state.
        next_values: node of the next value of each state.
        cache: intervals computed so far, shared between graphs that have nodes in common.
        hyperparameters: intervals of hyperparameters, by name. If this argument is given, an
            interval is open at a bound that float32 rounding cannot reach; otherwise all intervals
            are closed.
    """

    def __init__(
        self,
        starts: Mapping[str, Interval],
        next_values: Mapping[str, Node],
        cache: Intervals | None = None,
        hyperparameters: Mapping[str, Interval] | None = None,
    ):
        self._cache: Intervals = {} if cache is None else cache
        self._hyperparameters = hyperparameters
        self._intervals: dict[Node, Interval] = {}
        self.states: dict[str, Interval] = {}
        self._set_states(self._invariant_states(starts, next_values))

    def __call__(self, node: Node) -> Interval:
        """Return the interval of `node`."""
        interval = self._intervals.get(node)
        if interval is None:
            interval = self._intervals[node] = self._interval(node)
        return interval

    def _set_states(self, states: dict[str, Interval]) -> None:
        self.states = states
        self._intervals = self._cache.setdefault(tuple(states.items()), {})

    def _invariant_states(
        self, starts: Mapping[str, Interval], next_values: Mapping[str, Node]
    ) -> dict[str, Interval]:
        """Return intervals that contain the values of the states before and after every step.

        The intervals are enlarged until a step no longer changes them. If that takes too many
        iterations, all intervals become unbounded.
        """
        states = {name: float32(start) for name, start in starts.items()}
        for iteration in range(_WIDEN_AFTER + 2 * len(states) + 2):
            self._set_states(states)
            grown = {name: states[name].join(self(node)) for name, node in next_values.items()}
            if grown == states:
                return states
            if iteration >= _WIDEN_AFTER:
                grown = {name: widen(states[name], grown[name]) for name in states}
            states = grown
        return dict.fromkeys(states, ANYTHING)

    def _interval(self, node: Node) -> Interval:
        if node.is_constant:
            return float32(exactly(node.value))
        if node.op == STATE:
            return self.states.get(node.name, ANYTHING)
        if node.op in _INPUTS:
            return _INPUTS[node.op]
        if self._hyperparameters is not None and node.op == HYPERPARAMETER:
            return self._hyperparameters[node.name]
        op = node.op_entry
        if op.interval is None:
            return ANYTHING
        operands = [self._intervals.get(arg) or self(arg) for arg in node.args]
        if op.interval_of_same and node.args[0] is node.args[-1]:
            interval = op.interval_of_same(operands[0])
        else:
            interval = op.interval(*operands)
        return float32(interval.closed if self._hyperparameters is None else interval)
