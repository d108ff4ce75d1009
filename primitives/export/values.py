"""What a file computes, as a graph: the live program, lowered to what both targets can write.

Beside the ops of the language there are leaves (`weights`, `gradient`, `lr`, `t`, `state`,
`number`, `hyperparameter`) and three ops of the export's own: `total`, the sum of a value's numbers
over all arrays; `clip_scale`, the factor of `clip`; `spread`, the first operand at the size of the
second. Equal values are one object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from primitives.graph.analysis import analyse
from primitives.graph.roles import Hyperparameter, Roles, roles
from primitives.graph.structure import INITIAL, Place
from primitives.kinds import Kind, join, meet
from primitives.ops import OPS
from primitives.program import Parameter, Program

LEAVES = ("weights", "gradient", "lr", "t", "state", "number", "hyperparameter")


IRRATIONAL = {"get_pi": "_PI", "get_e": "_E"}
"""What a file calls the constants that have no short decimal."""


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the graph.

    Attributes:
        op: an op of the language or of the export.
        args: its operands.
        kind: how many numbers it has.
        name: for a leaf, what it is; otherwise what the program calls it.
        number: a number's value.
    """

    op: str
    args: tuple[Value, ...]
    kind: Kind
    name: str = ""
    number: float = 0.0


@dataclass(frozen=True)
class StateVariable:
    """A live state; it starts with a number or hyperparameter."""

    parameter: Parameter
    initial: Value
    old: Value
    following: Value


@dataclass(frozen=True)
class Graph:
    """What one step computes.

    Attributes:
        program: the live program.
        roles: its constants and states by role.
        direction: the update without the learning rate (and the decoupled weight decay).
        states: the live states.
    """

    program: Program
    roles: Roles
    direction: Value
    states: tuple[StateVariable, ...]

    def values(self) -> tuple[Value, ...]:
        """Every value that the step computes, operands first."""
        return reachable((self.direction, *(state.following for state in self.states)))

    def reads(self, leaf: str) -> bool:
        """Whether the step reads the leaf `weights`, `lr` or `t`."""
        return any(value.op == leaf for value in self.values())

    def constants(self) -> list[str]:
        """The lines that define the constants without a short decimal."""
        numbers = [value for value in self.values() if value.op == "number"]
        found = {v.name: v.number for v in numbers if v.name in IRRATIONAL.values()}
        lines = [f"{name} = {number!r}  # in float32" for name, number in sorted(found.items())]
        return [""] + lines if lines else []

    @property
    def by_matrix(self) -> bool:
        """Whether arrays must be seen as matrices: something is kept or done by row or column."""
        small = (Kind.ROW, Kind.COL, Kind.MATRIX)
        kinds = {value.kind for value in self.values()}
        kinds |= {state.parameter.kind for state in self.states}
        return bool(kinds & set(small)) or any(v.op == "orthogonalize" for v in self.values())


def reachable(roots: tuple[Value, ...]) -> tuple[Value, ...]:
    """The values that `roots` are made of, operands first."""
    found: dict[Value, None] = {}

    def visit(value: Value) -> None:
        if value not in found:
            for arg in value.args:
                visit(arg)
            found[value] = None

    for root in roots:
        visit(root)
    return tuple(found)


def graph(program: Program) -> Graph:
    """The live part of `program`, lowered."""
    found = roles(program)
    lowering = _Lowering(found)
    return lowering.graph()


class _Lowering:
    def __init__(self, found: Roles):
        self.roles = found
        self.program = found.program
        self.known: dict[tuple[object, ...], Value] = {}
        self.hyperparameters: dict[Place, Hyperparameter] = {}
        self.ones: set[Place] = set()
        for one in found.hyperparameters:
            self.hyperparameters |= dict.fromkeys(one.places, one)
            self.ones |= set(one.unit_places)
        self.ones |= {*found.learning_rate.places, *found.learning_rate.unit_places}

    def graph(self) -> Graph:
        analysis = analyse(self.program)
        base = len(self.program.parameters)
        values = [self._parameter(n, p) for n, p in enumerate(self.program.parameters)]
        for index, statement in enumerate(self.program.statements):
            operands = analysis.operands[index]
            args = [
                values[arg] if type(arg) is int else self._number((index, place), float(arg))
                for place, arg in enumerate(operands)
            ]
            if not operands:
                result = self._constant(index, statement.op)
            elif base + index == self.roles.decoupled:
                result = self.number(0.0)  # the alias adds it
            else:
                result = self.apply(statement.op, args, statement.target)
            values.append(result)
        states = tuple(
            StateVariable(
                parameter,
                self._number((INITIAL, number), parameter.initial),
                self.leaf("state", parameter.kind, parameter.name),
                values[analysis.outputs[1 + number]],
            )
            for number, parameter in enumerate(self.program.states)
        )
        return Graph(self.program, self.roles, values[analysis.outputs[0]], states)

    # -- making values --------------------------------------------------------------------------

    def leaf(self, op: str, kind: Kind, name: str, number: float = 0.0) -> Value:
        return self._value(op, (), kind, name, number)

    def number(self, number: float) -> Value:
        return self.leaf("number", Kind.SCALAR, repr(number), number)

    def _value(
        self, op: str, args: tuple[Value, ...], kind: Kind, name: str, number: float = 0.0
    ) -> Value:
        key = (op, args, kind, None if args else name)
        return self.known.setdefault(key, Value(op, args, kind, name, number))

    def _parameter(self, number: int, parameter: Parameter) -> Value:
        if number < 2:
            op = ("weights", "gradient")[number]
            return self.leaf(op, Kind.TENSOR, op)
        if parameter.name in self.program.returns[1:]:
            return self.leaf("state", parameter.kind, parameter.name)
        if parameter.name == "lr" and self.roles.linear:
            return self.number(1.0)  # the alias multiplies by it
        return self.leaf(parameter.name, Kind.SCALAR, parameter.name)

    def _number(self, place: Place, value: float) -> Value:
        if place in self.ones:
            return self.number(1.0)
        one = self.hyperparameters.get(place)
        if one is None:
            return self.number(float(np.float32(value)))
        return self.leaf("hyperparameter", Kind.SCALAR, one.name)

    def _constant(self, index: int, op: str) -> Value:
        value = float(OPS[op].meaning(np))
        if op in IRRATIONAL:
            return self.leaf("number", Kind.SCALAR, IRRATIONAL[op], value)
        return self._number((index, 0), value)

    def apply(self, op: str, args: list[Value], name: str) -> Value:
        """`op` of `args`, in terms of what both targets can write."""
        kinds = tuple(arg.kind for arg in args)
        common = Kind.SCALAR
        for kind in kinds:
            common = join(common, kind)
        row = OPS[op]
        if op == "identity":
            return args[0]
        neutral = self._neutral(op, args)
        if neutral is not None:
            return neutral
        if row.reduction is None:
            return self._value(op, tuple(args), row.result_kind(kinds), name)
        return self._reduction(op, args, common, name)

    def _neutral(self, op: str, args: list[Value]) -> Value | None:
        """The other operand of a product with 1 or a sum with 0; a constant that is the same."""
        if op not in ("multiply", "add"):
            return None
        unit = 1.0 if op == "multiply" else 0.0
        for this, other in (args, args[::-1]):
            if this.op == "number" and this.number == unit:
                return other
        return None

    def _reduction(self, op: str, args: list[Value], common: Kind, name: str) -> Value:
        scope = OPS[op].reduction.scope  # type: ignore[union-attr]
        x = args[0]
        alone = common == Kind.SCALAR or (scope != Kind.SCALAR and meet(common, scope) == common)
        if op in ("mean", "row_mean", "col_mean", "matrix_mean"):
            return x if alone else self._value(op, (x,), meet(common, scope), name)
        if op == "clip_by_rms":
            size = self.apply("rms", [x], f"{name}_rms")
            ratio = self.apply("divide", [size, args[1]], f"{name}_ratio")
            excess = self.apply("maximum", [self.number(1.0), ratio], f"{name}_excess")
            return self.apply("divide", [x, excess], name)
        if op in ("norm", "rms"):
            kind = meet(common, scope)
            return self._value("abs" if alone else op, (x,), kind, name)
        if op == "global_norm":
            return self._global_norm(x, name)
        if op == "clip":
            size = self._global_norm(x, f"{name}_norm")
            scale = self._value("clip_scale", (size, args[1]), Kind.SCALAR, f"{name}_scale")
            return self.apply("multiply", [x, scale], name)
        y = args[1]
        dot = self._total(self.apply("multiply", [x, y], name), f"{name}_dot")
        if op == "dot":
            return dot
        norms = [
            self._global_norm(self._spread(this, other, common), f"{name}_norm")
            for this, other in ((x, y), (y, x))
        ]
        return self.apply("divide", [dot, self.apply("multiply", norms, f"{name}_norms")], name)

    def _global_norm(self, x: Value, name: str) -> Value:
        if x.kind == Kind.SCALAR:
            return self.apply("abs", [x], name)
        squares = self._total(self.apply("square", [x], f"{name}_squares"), f"{name}_squares")
        return self.apply("sqrt", [squares], name)

    def _total(self, x: Value, name: str) -> Value:
        """The sum over all arrays; a scalar is its own only number."""
        return x if x.kind == Kind.SCALAR else self._value("total", (x,), Kind.SCALAR, name)

    def _spread(self, x: Value, like: Value, common: Kind) -> Value:
        return x if x.kind == common else self._value("spread", (x, like), common, "spread")
