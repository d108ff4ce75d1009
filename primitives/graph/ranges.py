"""What interval each value lies in, over all steps.

States start at their initial value and grow until nothing changes. An interval holds every number
that float32 arithmetic can give its value; what is below the smallest normal number may stay or
count as zero, as the machine likes, and an interval holds both. So one without zero is a proof that
a division is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from primitives.graph.nodes import HYPERPARAMETER, STATE, Node
from primitives.interval import ANYTHING, NONNEGATIVE, STEP, Interval, exactly, float32, widen

_WIDEN_AFTER = 4
_INPUTS = {"lr": NONNEGATIVE, "t": STEP}
"""A schedule's shape is not negative."""

Intervals: TypeAlias = dict[tuple[tuple[str, Interval], ...], dict[Node, Interval]]
"""The intervals of nodes, by those of the states that they are made of."""


class Ranges:
    """The interval of each node of a graph, and of nodes made of its leaves.

    Attributes:
        states: the interval of each state, over all steps.

    Args:
        starts: the interval of what each state starts with.
        following: what each state turns into.
        known: intervals that were found before, for the nodes that graphs have in common.
        hyperparameters: the intervals of hyperparameters. Where there are any, ends stay open where
            rounding cannot close them; a claim about every float32 has closed ends alone.
    """

    def __init__(
        self,
        starts: Mapping[str, Interval],
        following: Mapping[str, Node],
        known: Intervals | None = None,
        hyperparameters: Mapping[str, Interval] | None = None,
    ):
        self._known: Intervals = {} if known is None else known
        self._hyperparameters = hyperparameters
        self._of: dict[Node, Interval] = {}
        self.states: dict[str, Interval] = {}
        self._hold(self._states(starts, following))

    def __call__(self, node: Node) -> Interval:
        """The interval of `node`."""
        known = self._of.get(node)
        if known is None:
            known = self._of[node] = self._range(node)
        return known

    def _hold(self, held: dict[str, Interval]) -> None:
        self.states = held
        self._of = self._known.setdefault(tuple(held.items()), {})

    def _states(
        self, starts: Mapping[str, Interval], following: Mapping[str, Node]
    ) -> dict[str, Interval]:
        """Intervals that hold before and after each step: grown until they do, then to infinity."""
        held = {name: float32(start) for name, start in starts.items()}
        for attempt in range(_WIDEN_AFTER + 2 * len(held) + 2):
            self._hold(held)
            grown = {name: held[name].join(self(node)) for name, node in following.items()}
            if grown == held:
                return held
            if attempt >= _WIDEN_AFTER:
                grown = {name: widen(held[name], grown[name]) for name in held}
            held = grown
        return dict.fromkeys(held, ANYTHING)

    def _range(self, node: Node) -> Interval:
        if node.is_constant:
            return float32(exactly(node.value))
        if node.op == STATE:
            return self.states.get(node.name, ANYTHING)
        if node.op in _INPUTS:
            return _INPUTS[node.op]
        if self._hyperparameters is not None and node.op == HYPERPARAMETER:
            return self._hyperparameters[node.name]
        op = node.row
        if op.interval is None:
            return ANYTHING
        operands = [self._of.get(arg) or self(arg) for arg in node.args]
        if op.interval_of_same and node.args[0] is node.args[-1]:
            found = op.interval_of_same(operands[0])
        else:
            found = op.interval(*operands)
        return float32(found.closed if self._hyperparameters is None else found)
