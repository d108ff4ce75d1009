"""Canonical names: a program in the words of the field, whatever its search called things.

States are named by role (`momentum`, `second_moment`), the weight decay's term `weight_decay`, and
what becomes the update `update`, all along the way, as a person writes it:

    update = interp(g, momentum, 0.9)
    update = sign(update)
    weight_decay = w * 0.1
    update = update + weight_decay

What has no role is named after its op. Names are all that changes: the key stays.
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


def canonical(program: Program) -> Program:
    """The live part of `program` under canonical names; its semantic key is that of `program`.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    return _Namer(roles(program)).renamed()


class _Namer(Structure):
    """Gives every value a name; one that is held by a value still to be read gets a number."""

    def __init__(self, found: Roles):
        super().__init__(found.program)
        self.roles = found
        self.last_read = self._last_reads()
        self.holder: dict[str, Node] = {}
        self.states: dict[str, str] = {}
        taken = {"w", "g", "lr", "t"}
        for state in self.program.states:
            base = _STATE_NAMES.get(found.states[state.name], "state")
            base += SUFFIXES.get(state.kind, "") if base != "state" else ""
            self.states[state.name] = _numbered(base, taken)
            taken.add(self.states[state.name])
        self.on_the_way = self._way_to_the_update()

    def renamed(self) -> Program:
        """The program under its new names."""
        named: dict[Node, Argument] = {one: one.value for one in self.places if one.is_constant}
        names = {leaf: self._parameter(leaf) for leaf in self.parameters}
        self.holder = {name: leaf for leaf, name in names.items()}
        statements = []
        for node in self.statements:
            args = tuple([named[arg] if arg in named else names[arg] for arg in node.args])
            names[node] = self._target(node)
            self.holder[names[node]] = node
            statements.append(Statement(names[node], node.row.name, args))
        return Program(
            tuple(
                Parameter(names[leaf], p.kind, p.initial)
                for leaf, p in zip(self.parameters, self.program.parameters, strict=True)
            ),
            tuple(statements),
            (names[self.update], *(self.states[state.name] for state in self.program.states)),
        )

    def _parameter(self, leaf: Node) -> str:
        return {WEIGHTS: "w", GRADIENT: "g"}.get(leaf.op) or self.states.get(leaf.name, leaf.name)

    def _last_reads(self) -> dict[Node, int]:
        """The last statement that reads each value; what is returned is read after all."""
        last = {
            node: max((self.index(user) for user, _ in self.users[node]), default=-1)
            for node in (*self.parameters, *self.statements)
        }
        return last | dict.fromkeys((self.update, *self.following.values()), len(self.statements))

    def _way_to_the_update(self) -> set[Node]:
        """The values that turn into the update one after another, each read for nothing else."""
        way: set[Node] = set()
        node: Node | None = self.update
        while node is not None and node.is_call:
            way.add(node)
            mine = set(filter(self._feeds, node.args))
            node = mine.pop() if len(mine) == 1 else None
            if node is not None and (node in self.following.values() or len(self.users[node]) > 1):
                node = None
        return way

    def _feeds(self, node: Node) -> bool:
        """Whether gradients, this step's or through states past ones, go into `node`."""
        return not node.leaves.isdisjoint({self.gradient.name, *self.states})

    def _target(self, node: Node) -> str:
        returned = any(s.name == node.name and v is node for s, v in self.following.items())
        return self.states[node.name] if returned else self._free(self._wanted(node), node)

    def _wanted(self, node: Node) -> str:
        if node in self.on_the_way:
            return "update"
        if node.number == self.roles.decoupled or self._decays_weights(node):
            return "weight_decay"
        if node.leaves == {"lr"}:
            return "lr"
        if node.leaves == {"t"}:
            return {"subtract": "correction", "power": "decayed"}.get(node.op, "step")
        if node.op == "divide":
            corrected = self._state_of(node.args[0])
            if corrected and not self._feeds(node.args[1]):
                return f"corrected_{corrected}"
        if self._only_divides(node):
            return "denominator"
        if (
            self.gradient.name in node.leaves
            and node.leaves.isdisjoint(self.states)
            and self.orders[node] == 1
            and sum(map(self._feeds, node.args)) == 1
        ):
            return "g"
        return node.row.noun or f"{node.op}_value"

    def _state_of(self, node: Node) -> str:
        """The new name of the state that `node` is, or turns into."""
        for state, following in self.following.items():
            if node in (state, following):
                return self.states[state.name]
        return ""

    def _only_divides(self, node: Node) -> bool:
        users = self.users[node]
        return bool(users) and all(user.op == "divide" and place == 1 for user, place in users)

    def _decays_weights(self, node: Node) -> bool:
        _, _, others = self.factors(node)
        return others == [self.weights]

    def _free(self, base: str, node: Node) -> str:
        """`base`, or `base` with a number, that holds nothing which is still to be read."""
        number = 1
        while True:
            name = base if number == 1 else f"{base}{number}"
            holder = self.holder.get(name)
            held = holder is not None and self.last_read[holder] > self.index(node)
            if not held and name not in self.states.values() and _is_variable(name):
                return name
            number += 1


def _is_variable(name: str) -> bool:
    return name not in OPS and name not in ALIASES


def _numbered(base: str, taken: set[str]) -> str:
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}{number}"
    return name
