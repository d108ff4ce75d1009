"""The structure of an optimizer: its moving averages, its learning rate and its weight decay.

This module finds the states that average the gradient or its square, the constants that scale the
whole update, and the term of weight decay. `primitives.graph.roles` names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from primitives.graph.nodes import Node
from primitives.graph.statements import Position, StatementGraph, resolved
from primitives.op import Op
from primitives.program import Program

StateRole = Literal["momentum", "second moment", "largest second moment", ""]


class Structure(StatementGraph):
    """How the values of a live program depend on the gradient, the weights and `lr`.

    Attributes:
        weights: leaf of the weights.
        gradient: leaf of the gradient.
        orders: for each node, the power of the gradient that its value is proportional to; 0 for
            values that do not depend on the gradient, None if the order is unknown.
    """

    def __init__(self, program: Program):
        super().__init__(program)
        self.weights, self.gradient = self.parameters[:2]
        self.orders = self._derive_orders()

    # -- orders: the power of the gradient that a value is proportional to ----------------------

    def _derive_orders(self) -> dict[Node, float | None]:
        state_orders: dict[Node, float | None] = dict.fromkeys(self.next_values)
        for _ in range(4):  # an order may pass through up to three states
            orders: dict[Node, float | None] = dict.fromkeys(
                (*self.parameters, *self.positions), 0.0
            )
            orders[self.gradient] = 1.0
            orders |= state_orders
            for node in self.statements:
                orders[node] = _order(node.op_entry, [orders[arg] for arg in node.args])
            state_orders = {state: orders[value] for state, value in self.next_values.items()}
        return orders

    # -- states --------------------------------------------------------------------------------

    def state_roles(self) -> dict[str, tuple[StateRole, bool]]:
        """Return, for each state, its role and whether the state is a sum instead of an average."""
        roles: dict[str, tuple[StateRole, bool]] = {}
        for state, next_value in self.next_values.items():
            form = self.form(state)
            order = self.orders[next_value]
            role: StateRole = ""
            if form == "maximum":
                role = "largest second moment" if order == 2 else ""
            elif form and order in (1, 2):
                role = "momentum" if order == 1 else "second moment"
            roles[state.name] = role, form == "sum"
        return roles

    def form(self, state: Node) -> str:
        """Return how a state accumulates: "average", "maximum", "sum", or an empty text."""
        value = resolved(self.next_values[state])
        args = [resolved(arg) for arg in value.args]
        if value.op == "interp" and state in args[:2]:
            return "average"
        if value.op == "maximum" and state in args:
            return "maximum"
        if value.op == "add" and (state in args or any(self.scaled(arg) is state for arg in args)):
            return "sum"
        return ""

    def scaled(self, value: Node) -> Node | None:
        """Return x if `value` is x times a constant, otherwise None."""
        value = resolved(value)
        if value.op != "multiply":
            return None
        for factor, other in (value.args, value.args[::-1]):
            if self.constant(factor) and not self.constant(other):
                return resolved(other)
        return None

    # -- the learning rate and the decoupled weight decay ---------------------------------------

    def factors(self, value: Node) -> tuple[list[Position], int, list[Node]]:
        """Split a product into its factors.

        Returns:
            The positions of the positive constants, how often `lr` is a factor, and the other
            factors.
        """
        value = resolved(value)
        if value.is_constant:
            return [], 0, []
        if value.op == "lr":
            return [], 1, []
        if value.op != "multiply":
            return [], 0, [value]
        positions: list[Position] = []
        others: list[Node] = []
        lr_power = 0
        for operand in value.args:
            constant = self.constant(operand)
            if constant and constant[0] > 0:
                positions.append(constant[1])
            elif constant:
                return [], 0, [value]
            else:
                inner = self.factors(operand)
                positions, lr_power = positions + inner[0], lr_power + inner[1]
                others = others + inner[2]
        return positions, lr_power, others

    def learning_rate(self) -> tuple[list[Position], bool]:
        """Return the positions of constants that scale the update; whether `lr` is a factor.

        `lr` also counts as a factor of an update that does not depend on `lr`. It does not count as
        a factor if a state depends on `lr`.
        """
        positions, lr_power, others = self.factors(self.update)
        positions = [p for p in positions if Counter(positions)[p] == 1 and self._only_scales(p)]
        if any("lr" in value.leaves for value in self.next_values.values()):
            return positions, False
        if "lr" not in self.update.leaves:
            return positions, True
        if lr_power == 1 and not any("lr" in value.leaves for value in others):
            return positions, True
        return positions, self._degree_in_lr(self.update, {}) == 1

    def reads_lr(self) -> bool:
        """Return whether the program reads `lr`."""
        read = {*self.users, self.update, *self.next_values.values()}
        return any(node.op == "lr" for node in read)

    def _only_scales(self, position: Position) -> bool:
        """Return whether the constant at `position` is read once, possibly through copies."""
        node = self.statements[position[0]]
        while self.constant(node) and len(self.users[node]) == 1:
            node = self.users[node][0][0]
        return not self.constant(node)

    def _degree_in_lr(self, node: Node, cache: dict[Node, int | None]) -> int | None:
        """Return d if the value of `node` is proportional to lr^d, otherwise None."""
        if not node.is_call:
            return int(node.op == "lr")
        if node not in cache:
            degrees = [self._degree_in_lr(arg, cache) for arg in node.args]
            cache[node] = _homogeneous_degree(node.op_entry, degrees)
        return cache[node]

    def decoupled_weight_decay(self, lr_is_factor: bool) -> tuple[Node | None, list[Position]]:
        """Find decoupled weight decay: a term of the update that is a constant times the weights.

        Args:
            lr_is_factor: whether `lr` is a factor of the update, see `learning_rate`. Only then may
                `lr` be a factor of the term too.

        Returns:
            The term and the positions of its constants; (None, []) if there is not exactly one.
        """
        _, lr_power, others = self.factors(self.update)
        if len(others) != 1 or (lr_power and not lr_is_factor):
            return None, []
        terms = list(self._weight_terms(others[0], lr_is_factor))
        return terms[0] if len(terms) == 1 else (None, [])

    def _weight_terms(
        self, value: Node, lr_is_factor: bool
    ) -> Iterable[tuple[Node, list[Position]]]:
        """Yield the terms of the sum `value` that are positive constants times the weights.

        A sum that is read more than once yields no terms.
        """
        if value.op != "add" or not self._read_once(value):
            return
        for term in map(resolved, value.args):
            if term.is_constant:
                continue
            positions, lr_power, others = self.factors(term)
            scales = positions and (lr_is_factor or not lr_power)
            if (
                scales
                and all(map(self._only_scales, positions))
                and others == [self.weights]
                and self._read_once(term)
            ):
                yield term, positions
            else:
                yield from self._weight_terms(term, lr_is_factor)

    def _read_once(self, node: Node) -> bool:
        """Return whether `node` is read at most once, including as a state or as the update."""
        reads = len(self.users[node]) + list(self.next_values.values()).count(node)
        return reads + (node is self.update) <= 1


def _order(op: Op, orders: list[float | None]) -> float | None:
    """Return the order of a result from the orders of its operands; None if it is unknown.

    The rules are those of `Op.order`.
    """
    known_orders = [order for order in orders if order is not None]
    if not known_orders:
        return 0.0 if not orders else None
    if op.exponent is not None:
        return orders[0] if orders[0] is None else orders[0] * op.exponent
    match op.order:
        case "none":
            return 0.0
        case "sum":
            return sum(known_orders) if len(known_orders) == len(orders) else None
        case "difference":
            return known_orders[0] - known_orders[1] if len(known_orders) == 2 else None
        case "largest":
            return max(known_orders)
        case "linear":
            summands = (orders[operand] for operand in op.linear)
            return max((order for order in summands if order is not None), default=None)
    return None


def _homogeneous_degree(op: Op, degrees: list[int | None]) -> int | None:
    """Return the degree of a result in `lr`, from the degrees of its operands.

    The degree is None if the result is not homogeneous.
    """
    known_degrees = [degree for degree in degrees if degree is not None]
    if len(known_degrees) < len(degrees):
        return None
    if not any(known_degrees):
        return 0
    if op.name == "multiply":
        return sum(known_degrees)
    if op.name == "divide":
        return known_degrees[0] - known_degrees[1]
    summands = {known_degrees[operand] for operand in op.linear}
    others = [degree for operand, degree in enumerate(known_degrees) if operand not in op.linear]
    return summands.pop() if len(summands) == 1 and not any(others) else None
