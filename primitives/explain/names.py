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

from primitives.graph.roles import Roles, roles
from primitives.graph.structure import Structure
from primitives.kinds import Kind
from primitives.ops import ALIASES, OPS
from primitives.program import Argument, Parameter, Program, Statement

_STATE_NAMES = {
    ("momentum", False): "momentum",
    ("momentum", True): "momentum",
    ("second moment", False): "second_moment",
    ("second moment", True): "sum_of_squares",
    ("largest second moment", False): "largest_second_moment",
}
_SUFFIXES = {Kind.ROW: "_row", Kind.COL: "_col"}


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
        self.on_the_way = self._way_to_the_update()
        self.holder: dict[str, int] = {}
        self.states: dict[str, str] = {}
        taken = {"w", "g", "lr", "t"}
        for state in self.program.states:
            base = _STATE_NAMES.get(found.states[state.name], "state")
            base += _SUFFIXES.get(state.kind, "") if base != "state" else ""
            self.states[state.name] = _numbered(base, taken)
            taken.add(self.states[state.name])

    def renamed(self) -> Program:
        """The program under its new names."""
        parameters = tuple(
            Parameter(self._parameter(number), p.kind, p.initial)
            for number, p in enumerate(self.program.parameters)
        )
        names = [p.name for p in parameters]
        self.holder = {name: number for number, name in enumerate(names)}
        statements = []
        for index, statement in enumerate(self.program.statements):
            args: list[Argument] = [
                names[arg] if isinstance(arg, int) else arg for arg in self.operands[index]
            ]
            target = self._target(index)
            self.holder[target] = self.base + index
            names.append(target)
            statements.append(Statement(target, statement.op, tuple(args)))
        update = names[self.update]
        returns = (update, *(self.states[state.name] for state in self.program.states))
        return Program(parameters, tuple(statements), returns)

    def _parameter(self, number: int) -> str:
        name = self.names[number]
        return ("w", "g")[number] if number < 2 else self.states.get(name, name)

    def _last_reads(self) -> list[int]:
        """The last statement that reads each value; what is returned is read after all."""
        last = [-1] * (self.base + len(self.operands))
        for index, operands in enumerate(self.operands):
            for operand in operands:
                if type(operand) is int:
                    last[operand] = index
        last[self.update] = len(self.operands)
        for value in self.next_value.values():
            last[value] = len(self.operands)
        return last

    def _way_to_the_update(self) -> set[int]:
        """The values that turn into the update one after another, each read for nothing else."""
        way: set[int] = set()
        value: int | None = self.update
        while value is not None and value >= self.base:
            way.add(value)
            mine = [arg for arg in self.args(value) if type(arg) is int and self._feeds(arg)]
            one = mine[0] if len(set(mine)) == 1 else None
            returned = one in self.next_value.values()
            value = None if one is None or returned or len(self.users[one]) > 1 else one
        return way

    def _feeds(self, value: int | float) -> bool:
        """Whether gradients, this step's or through states past ones, go into `value`."""
        return type(value) is int and bool(self.depends[value] & {1, *self.next_value})

    def _target(self, index: int) -> str:
        value = self.base + index
        own = self.program.statements[index].target
        if own in self.states and self._is_returned_as(value, own):
            return self.states[own]
        return self._free(self._wanted(index), index)

    def _is_returned_as(self, value: int, state: str) -> bool:
        return self.next_value.get(self.names.index(state)) == value

    def _wanted(self, index: int) -> str:
        value, op = self.base + index, self.op_of(index)
        if value in self.on_the_way:
            return "update"
        if value == self.roles.decoupled or self._decays_weights(value):
            return "weight_decay"
        depends = self.depends[value]
        if depends and all(self.names[number] == "lr" for number in depends):
            return "lr"
        if "t" in self.names and depends == {self.names.index("t")}:
            return {"subtract": "correction", "power": "decayed"}.get(op, "step")
        if op == "divide":
            corrected = self._state_of(self.operands[index][0])
            if corrected and not self._feeds(self.operands[index][1]):
                return f"corrected_{corrected}"
        if self._only_divides(value):
            return "denominator"
        states = depends & self.next_value.keys()
        if (
            1 in depends
            and not states
            and self.order(value) == 1
            and len(self._variables(index)) == 1
        ):
            return "g"
        return OPS[op].noun or f"{op}_value"

    def _state_of(self, value: int | float) -> str:
        """The new name of the state that `value` is, or turns into."""
        for state, following in self.next_value.items():
            if value in (state, following) and type(value) is int:
                return self.states[self.names[state]]
        return ""

    def _only_divides(self, value: int) -> bool:
        return bool(self.users[value]) and all(
            self.op_of(index) == "divide" and operand == 1 for index, operand in self.users[value]
        )

    def _variables(self, index: int) -> list[int]:
        """Operands that depend on gradient or states."""
        return [arg for arg in self.operands[index] if type(arg) is int and self._feeds(arg)]

    def _decays_weights(self, value: int) -> bool:
        _, _, others = self.factors(value)
        return others == [0] and value >= self.base

    def _free(self, base: str, index: int) -> str:
        """`base`, or `base` with a number, that holds nothing which is still to be read."""
        number = 1
        while True:
            name = base if number == 1 else f"{base}{number}"
            holder = self.holder.get(name)
            held = holder is not None and self.last_read[holder] > index
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
