"""Renaming of a program's variables to the terms of the field.

States are named by role (`momentum`, `second_moment`), and the weight decay term is named
`weight_decay`. The successive values that become the update are all named `update`, as in
hand-written code:

    update = interp(g, momentum, 0.9)
    update = sign(update)
    weight_decay = w * 0.1
    update = update + weight_decay

Every other value is named after its op. Only names change, so the semantic key stays the same.
"""

from __future__ import annotations

from primitives.graph.nodes import GRADIENT, WEIGHTS, Node
from primitives.graph.roles import SUFFIXES, Roles, roles
from primitives.graph.structure import Structure
from primitives.ops import ALIASES, OPS
from primitives.program import Argument, Parameter, Program, Statement

_STATE_NAMES = {
    ("momentum", False): "momentum",
    ("momentum", True): "momentum",
    ("second moment", False): "second_moment",
    ("second moment", True): "sum_of_squares",
    ("largest second moment", False): "largest_second_moment",
}
"""Name of a state by its role and by whether it is a sum, not an average."""


def canonical(program: Program) -> Program:
    """Return the live part of `program` under canonical names.

    The result has the same semantic key as `program`.

    Raises:
        ProgramError: the program is not valid.
    """
    return _Namer(roles(program)).renamed()


class _Namer(Structure):
    """Gives every value a name.

    A name gets a number if the value that already has the name is still read later.
    """

    def __init__(self, roles: Roles):
        super().__init__(roles.program)
        self.roles = roles
        self.last_read = self._last_reads()
        self.value_of_name: dict[str, Node] = {}  # the value that each name currently belongs to
        self.states: dict[str, str] = {}  # the new name of each state
        used_names = {"w", "g", "lr", "t"}
        for state in self.program.states:
            base = _STATE_NAMES.get(roles.states[state.name], "state")
            base += SUFFIXES.get(state.kind, "") if base != "state" else ""
            self.states[state.name] = _numbered(base, used_names)
            used_names.add(self.states[state.name])
        self.update_chain = self._update_chain()

    def renamed(self) -> Program:
        """Return the program under its new names."""
        constants: dict[Node, Argument] = {
            node: node.value for node in self.positions if node.is_constant
        }
        names = {node: self._parameter_name(node) for node in self.parameters}
        self.value_of_name = {name: node for node, name in names.items()}
        statements = []
        for node in self.statements:
            args = tuple([constants[arg] if arg in constants else names[arg] for arg in node.args])
            names[node] = self._result_name(node)
            self.value_of_name[names[node]] = node
            statements.append(Statement(names[node], node.op_entry.name, args))
        return Program(
            tuple(
                Parameter(names[node], parameter.kind, parameter.initial)
                for node, parameter in zip(self.parameters, self.program.parameters, strict=True)
            ),
            tuple(statements),
            (names[self.update], *(self.states[state.name] for state in self.program.states)),
        )

    def _parameter_name(self, node: Node) -> str:
        return {WEIGHTS: "w", GRADIENT: "g"}.get(node.op) or self.states.get(node.name, node.name)

    def _last_reads(self) -> dict[Node, int]:
        """Return for each value the index of the last statement that reads the value.

        For a value that the program returns, the index is `len(self.statements)`; for an unread
        value it is -1.
        """
        last = {
            node: max((self.index(user) for user, _ in self.users[node]), default=-1)
            for node in (*self.parameters, *self.statements)
        }
        return last | dict.fromkeys((self.update, *self.next_values.values()), len(self.statements))

    def _update_chain(self) -> set[Node]:
        """Return the successive values that become the update and that nothing else reads."""
        chain: set[Node] = set()
        node: Node | None = self.update
        while node is not None and node.is_call:
            chain.add(node)
            operands = set(filter(self._depends_on_gradient_or_state, node.args))
            node = operands.pop() if len(operands) == 1 else None
            if node is not None and (
                node in self.next_values.values() or len(self.users[node]) > 1
            ):
                node = None
        return chain

    def _depends_on_gradient_or_state(self, node: Node) -> bool:
        """Whether `node` depends on the gradient of this step, or on a state."""
        return not node.leaves.isdisjoint({self.gradient.name, *self.states})

    def _result_name(self, node: Node) -> str:
        """Return the name of a statement's result."""
        is_next_value_of_its_state = any(
            state.name == node.name and value is node for state, value in self.next_values.items()
        )
        return (
            self.states[node.name]
            if is_next_value_of_its_state
            else self._unused_name(self._base_name(node), node)
        )

    def _base_name(self, node: Node) -> str:
        if node in self.update_chain:
            return "update"
        if node.number == self.roles.weight_decay_node or self._decays_weights(node):
            return "weight_decay"
        if node.leaves == {"lr"}:
            return "lr"
        if node.leaves == {"t"}:  # bias correction: decayed = 0.9^t, correction = 1 - decayed
            return {"subtract": "correction", "power": "decayed"}.get(node.op, "step")
        if node.op == "divide":
            state = self._state_of(node.args[0])
            if state and not self._depends_on_gradient_or_state(node.args[1]):
                return f"corrected_{state}"
        if self._is_only_divisor(node):
            return "denominator"
        if (
            self.gradient.name in node.leaves
            and node.leaves.isdisjoint(self.states)
            and self.orders[node] == 1  # proportional to the gradient
            and sum(map(self._depends_on_gradient_or_state, node.args)) == 1
        ):
            return "g"
        return node.op_entry.noun or f"{node.op}_value"

    def _state_of(self, node: Node) -> str:
        """Return the new name of the state whose old or next value is `node`, else ""."""
        for state, next_value in self.next_values.items():
            if node in (state, next_value):
                return self.states[state.name]
        return ""

    def _is_only_divisor(self, node: Node) -> bool:
        users = self.users[node]
        return bool(users) and all(user.op == "divide" and index == 1 for user, index in users)

    def _decays_weights(self, node: Node) -> bool:
        _, _, others = self.factors(node)
        return others == [self.weights]

    def _unused_name(self, base: str, node: Node) -> str:
        """Return `base` as an unused name for `node`, with a number if needed.

        A name is unused if no later statement reads the value that has the name now.
        """
        number = 1
        while True:
            name = base if number == 1 else f"{base}{number}"
            value = self.value_of_name.get(name)
            is_in_use = value is not None and self.last_read[value] > self.index(node)
            if not is_in_use and name not in self.states.values() and not _is_op_name(name):
                return name
            number += 1


def _is_op_name(name: str) -> bool:
    return name in OPS or name in ALIASES


def _numbered(base: str, used_names: set[str]) -> str:
    number, name = 1, base
    while name in used_names:
        number += 1
        name = f"{base}{number}"
    return name
