"""The structure of an optimizer: its moving averages, its learning rate and its weight decay.

This module finds the states that average the gradient or its square, the constants that scale the
whole update, and the term of weight decay. `primitives.graph.roles` gives them names.
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
        orders: for each node, its order: the exponent p such that the node's value is proportional
            to the p-th power of the gradient. The order is 0 for values that do not depend on the
            gradient, and None if it is unknown.
    """

    def __init__(self, program: Program):
        super().__init__(program)
        self.weights, self.gradient = self.parameters[:2]
        self.orders = self._derive_orders()

    # -- orders --------------------------------------------------------------------------------

    def _derive_orders(self) -> dict[Node, float | None]:
        state_orders: dict[Node, float | None] = dict.fromkeys(self.next_values)
        for _ in range(4):  # finds the orders of values that depend on up to three states in turn
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
        """Return, by name, each state's role and whether the state is a sum, not an average."""
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
        adds_to_state = state in args or any(self.scaled(arg) is state for arg in args)
        return "sum" if value.op == "add" and adds_to_state else ""

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
            The positions of the positive constant factors, how often `lr` is a factor, and the
            other factors.
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
                operand_positions, operand_lr_power, operand_others = self.factors(operand)
                positions += operand_positions
                lr_power += operand_lr_power
                others += operand_others
        return positions, lr_power, others

    def learning_rate(self) -> tuple[list[Position], bool]:
        """Return the positions of constants that scale the update, and whether `lr` is a factor.

        If the update does not depend on `lr`, `lr` counts as a factor. If a state depends on `lr`,
        `lr` does not count as a factor.
        """
        positions, lr_power, others = self.factors(self.update)
        counts = Counter(positions)
        positions = [
            position
            for position in positions
            if counts[position] == 1 and self._is_read_once(position)
        ]
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

    def _is_read_once(self, position: Position) -> bool:
        """Return whether the constant at `position` is read once, possibly through copies."""
        index, _ = position
        node = self.statements[index]
        while self.constant(node) and len(self.users[node]) == 1:
            ((node, _),) = self.users[node]
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
            lr_is_factor: whether `lr` is a factor of the update, see `learning_rate`. If not, `lr`
                must not be a factor of the term.

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
        if value.op != "add" or not self._is_used_once(value):
            return
        for term in map(resolved, value.args):
            if term.is_constant:
                continue
            positions, lr_power, others = self.factors(term)
            is_scaled = positions and (lr_is_factor or not lr_power)
            is_multiple_of_weights = is_scaled and others == [self.weights]
            if (
                is_multiple_of_weights
                and all(map(self._is_read_once, positions))
                and self._is_used_once(term)
            ):
                yield term, positions
            else:
                yield from self._weight_terms(term, lr_is_factor)

    def _is_used_once(self, node: Node) -> bool:
        """Return whether `node` is at most once an operand, a next value or the update."""
        next_value_count = list(self.next_values.values()).count(node)
        return len(self.users[node]) + next_value_count + (node is self.update) <= 1


def _order(op: Op, orders: list[float | None]) -> float | None:
    """Return the order of an op's result from the orders of the operands; None if unknown.

    `Op.order` explains the rules.
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
    """Return the degree of an op's result in `lr`, from the degrees of the operands.

    The degree is None if the result is not proportional to a power of `lr`.
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
    summand_degrees = {known_degrees[index] for index in op.linear}
    other_degrees = [degree for index, degree in enumerate(known_degrees) if index not in op.linear]
    have_equal_degrees = len(summand_degrees) == 1
    return summand_degrees.pop() if have_equal_degrees and not any(other_degrees) else None
