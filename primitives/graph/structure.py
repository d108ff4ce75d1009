"""The structure of an optimizer: what a program's values are made of.

Which states average the gradient or its square, which constants scale the whole update, which term
is weight decay. `primitives.graph.roles` gives these names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import numpy as np

from primitives.graph.analysis import analyse
from primitives.ops import OPS
from primitives.program import Program

Place = tuple[int, int]
"""Where a constant is written: its statement and operand, or (INITIAL, n): the start of state n."""
INITIAL = -1

StateRole = Literal["momentum", "second moment", "largest second moment", ""]


class Structure:
    """What the values of a live program are to the gradient, the weights and the learning rate."""

    def __init__(self, program: Program):
        self.program = program
        analysis = analyse(program)
        self.operands = analysis.operands
        self.kinds = analysis.kinds
        self.base = len(program.parameters)
        self.update = analysis.outputs[0]
        self.next_value = analysis.next_value
        self.names = [parameter.name for parameter in program.parameters]
        self.users: dict[int, list[Place]] = defaultdict(list)
        for index, operands in enumerate(self.operands):
            for place, operand in enumerate(operands):
                if type(operand) is int:
                    self.users[operand].append((index, place))
        self.orders = self._orders()

    # -- reading the program ------------------------------------------------------------------

    def op(self, value: int) -> str:
        """The op that gives `value`, by its first name; "" for a parameter."""
        return self.op_of(value - self.base) if value >= self.base else ""

    def op_of(self, index: int) -> str:
        """The op of a statement, by its first name: `interp` for `ema`."""
        name = self.program.statements[index].op
        return OPS[name].same_as or name

    def args(self, value: int) -> tuple[int | float, ...]:
        """The operands of the statement that gives `value`."""
        return self.operands[value - self.base]

    def resolve(self, value: int | float) -> int | float:
        """`value`, or what it is a copy of."""
        while type(value) is int and self.op(value) == "identity":
            value = self.args(value)[0]
        return value

    def constant(self, index: int, operand: int) -> tuple[float, Place] | None:
        """The constant that an operand is, with the place where it is written."""
        place, value = (index, operand), self.operands[index][operand]
        while type(value) is int:
            if value < self.base:
                return None
            place = (value - self.base, 0)
            if self.op(value) == "get_eps":
                return given(self.op(value)), place
            if self.op(value) != "identity":
                return None
            value = self.args(value)[0]
        return float(value), place

    def is_input(self, value: int | float, name: str) -> bool:
        """Whether `value` is the parameter `name`, or a copy of it."""
        value = self.resolve(value)
        return type(value) is int and value < self.base and self.names[value] == name

    @cached_property
    def depends(self) -> list[set[int]]:
        """The parameters that each value depends on within one step."""
        found: list[set[int]] = [{value} for value in range(self.base)]
        for operands in self.operands:
            read = (found[operand] for operand in operands if type(operand) is int)
            found.append(set().union(*read))
        return found

    # -- orders: the power of the gradient that a value is proportional to ----------------------

    def _orders(self) -> list[float | None]:
        """0 for what does not depend on the gradient, None for what is not yet known."""
        orders: list[float | None] = []
        state_orders: dict[int, float | None] = dict.fromkeys(self.next_value)
        for _ in range(4):
            orders = [0.0] * self.base
            orders[1] = 1.0
            for state, order in state_orders.items():
                orders[state] = order
            for index, operands in enumerate(self.operands):
                known = [orders[v] if type(v) is int else 0.0 for v in operands]
                orders.append(_order(self.op_of(index), known))
            state_orders = {state: orders[value] for state, value in self.next_value.items()}
        return orders

    def order(self, value: int | float) -> float | None:
        """The power of the gradient that `value` is proportional to; 0 for a constant."""
        return self.orders[value] if type(value) is int else 0.0

    # -- states --------------------------------------------------------------------------------

    def state_roles(self) -> dict[str, tuple[StateRole, bool]]:
        """The role of each state, and whether it is a sum (not an average)."""
        found: dict[str, tuple[StateRole, bool]] = {}
        for state, following in self.next_value.items():
            form = self._form(state, following)
            order = self.orders[following]
            role: StateRole = ""
            if form == "maximum":
                role = "largest second moment" if order == 2 else ""
            elif form and order in (1, 2):
                role = "momentum" if order == 1 else "second moment"
            found[self.names[state]] = role, form == "sum"
        return found

    def _form(self, state: int, following: int) -> str:
        """Whether the next value is an average, sum or maximum of the state and something new."""
        value = self.resolve(following)
        if type(value) is not int or value < self.base:
            return ""
        op, args = self.op(value), [self.resolve(arg) for arg in self.args(value)]
        if op == "interp" and state in args[:2]:
            return "average"
        if op == "maximum" and state in args:
            return "maximum"
        if op == "add" and (state in args or any(self._decayed(arg) == state for arg in args)):
            return "sum"
        return ""

    def _decayed(self, value: int | float) -> int | float | None:
        """x where `value` is x times a constant."""
        value = self.resolve(value)
        if type(value) is not int or self.op(value) != "multiply":
            return None
        index = value - self.base
        for mine, other in ((0, 1), (1, 0)):
            if self.constant(index, mine) and not self.constant(index, other):
                return self.resolve(self.operands[index][other])
        return None

    # -- the learning rate and the decoupled weight decay ---------------------------------------

    def factors(self, value: int | float) -> tuple[list[Place], int, list[int]]:
        """A product as positive constants, how often `lr` is in it, and the other factors."""
        value = self.resolve(value)
        if type(value) is not int:
            return [], 0, []
        if self.is_input(value, "lr"):
            return [], 1, []
        if value < self.base or self.op(value) != "multiply":
            return [], 0, [value]
        places: list[Place] = []
        others: list[int] = []
        rates = 0
        for operand in (0, 1):
            found = self.constant(value - self.base, operand)
            if found and found[0] > 0:
                places.append(found[1])
            elif found:
                return [], 0, [value]
            else:
                more = self.factors(self.operands[value - self.base][operand])
                places, rates, others = places + more[0], rates + more[1], others + more[2]
        return places, rates, others

    def rate(self) -> tuple[list[Place], bool]:
        """The constants that scale the update, and whether it is proportional to `lr`."""
        places, rates, others = self.factors(self.update)
        places = [p for p in places if Counter(places)[p] == 1 and self._only_scales(p)]
        lr = self.names.index("lr") if "lr" in self.names else -1
        if any(lr in self.depends[value] for value in self.next_value.values()):
            return places, False
        if lr not in self.depends[self.update]:
            return places, True
        if rates == 1 and not any(lr in self.depends[value] for value in others):
            return places, True
        return places, self._degree(self.update, lr, {}) == 1

    def reads_lr(self) -> bool:
        """Whether the program uses the schedule."""
        lr = self.names.index("lr") if "lr" in self.names else -1
        return bool(self.users[lr]) or lr in (self.update, *self.next_value.values())

    def _only_scales(self, place: Place) -> bool:
        """Whether the constant at `place` has a single reader (it may have been given a name)."""
        value = self.base + place[0]
        while self.op(value) in ("identity", "get_eps") and len(self.users[value]) == 1:
            value = self.base + self.users[value][0][0]
        return self.op(value) not in ("identity", "get_eps")

    def _degree(self, value: int | float, lr: int, known: dict[int, int | None]) -> int | None:
        """The d for which `value` is proportional to lr^d, None where there is none."""
        if type(value) is not int or value < self.base:
            return 1 if value == lr and type(value) is int else 0
        if value not in known:
            degrees = [self._degree(arg, lr, known) for arg in self.args(value)]
            known[value] = _homogeneous_degree(self.op(value), degrees)
        return known[value]

    def decoupled(self, linear: bool) -> tuple[int | None, list[Place]]:
        """The term of the update that is the weights times positive constants (and `lr`)."""
        _, rates, others = self.factors(self.update)
        if len(others) != 1 or (rates and not linear):
            return None, []
        found = list(self._weight_terms(others[0], linear))
        return found[0] if len(found) == 1 else (None, [])

    def _weight_terms(self, value: int, linear: bool) -> Iterable[tuple[int, list[Place]]]:
        """Terms of the sum `value` (which nothing else reads) that are constants times weights."""
        if self.op(value) != "add" or not self._read_once(value):
            return
        for operand in self.args(value):
            term = self.resolve(operand)
            if type(term) is not int:
                continue
            places, rates, others = self.factors(term)
            scales = places and (linear or not rates) and all(map(self._only_scales, places))
            if scales and others == [0] and self._read_once(term):
                yield term, places
            else:
                yield from self._weight_terms(term, linear)

    def _read_once(self, value: int) -> bool:
        """Whether nothing but the update's own path reads `value`."""
        readers = len(self.users[value]) + list(self.next_value.values()).count(value)
        return readers + (value == self.update) <= 1


def given(op: str) -> float:
    """The number that an op without operands gives, in the fewest digits of a float32."""
    return float(str(np.float32(OPS[op].meaning(np))))


def _order(name: str, orders: list[float | None]) -> float | None:
    """The power of the gradient that a result is proportional to, roughly."""
    op = OPS[name]
    known = [order for order in orders if order is not None]
    if not known:
        return 0.0 if not orders else None
    if op.exponent is not None:
        return orders[0] if orders[0] is None else orders[0] * op.exponent
    match op.order:
        case "none":
            return 0.0
        case "sum":
            return sum(known) if len(known) == len(orders) else None
        case "difference":
            return known[0] - known[1] if len(known) == 2 else None
        case "largest":
            places = op.linear or range(len(orders))
            summands = (orders[place] for place in places)
            return max((order for order in summands if order is not None), default=None)
    return None


def _homogeneous_degree(name: str, degrees: list[int | None]) -> int | None:
    """The degree of a result, from those of its operands; None where it is not homogeneous."""
    op = OPS[name]
    known = [degree for degree in degrees if degree is not None]
    if len(known) < len(degrees):
        return None
    if not any(known):
        return 0
    if name == "multiply":
        return sum(known)
    if name == "divide":
        return known[0] - known[1]
    summands = {known[place] for place in op.linear}
    others = [degree for place, degree in enumerate(known) if place not in op.linear]
    return summands.pop() if len(summands) == 1 and not any(others) else None
