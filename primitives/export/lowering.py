"""What a file computes, as a graph: the live program, lowered to what both targets can write.

Constants have names, those of hyperparameters; reductions that no target has are made of others.
Beside the ops of the language there are three of the export's own, with rows of their own: `total`,
the sum of a value's numbers over all arrays; `clip_scale`, the factor of `clip`; `spread`, the
first operand at the size of the second.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from primitives.graph.nodes import (
    CONSTANT,
    HYPERPARAMETER,
    STATE,
    Node,
    Nodes,
    reachable,
)
from primitives.graph.ranges import Ranges
from primitives.graph.roles import Hyperparameter, Roles, roles
from primitives.graph.statements import (
    INITIAL,
    Place,
    StatementGraph,
    bias_correction,
    constant_value,
)
from primitives.interval import ANYTHING, NONNEGATIVE, UNIT, Interval, exactly
from primitives.kinds import Kind, common, meet
from primitives.op import Op, Reduction
from primitives.ops import OPS
from primitives.program import Parameter, Program


class ExportError(ValueError):
    """A program that is not exported; the message says why."""


_EXPORT_OPS = (
    Op(
        "total",
        "x",
        lambda xp, totals, x: totals[0],
        "sum over all arrays",
        reduction=Reduction(Kind.SCALAR, "sum", lambda xp, x: (x,)),
        keeps_kind=False,
        interval=lambda x: NONNEGATIVE if x.low >= 0 else ANYTHING,
    ),
    Op(
        "clip_scale",
        "ss",
        lambda xp, norm, c: xp.where(norm > c, c / norm, 1.0),
        "the factor that brings a norm down to c where it is above",
        interval=lambda norm, c: UNIT if c.low >= 0 else ANYTHING,
        code="xp.where(_0 > _1, _1 / _0, 1.0)",
        guarded_code="xp.where(_0 > _1, _divide(_1, _0), 1.0)",
        code_valid=lambda norm, c: c.low >= 0,
    ),
    Op(
        "spread",
        "xx",
        lambda xp, x, like: xp.broadcast_arrays(x, like)[0],
        "x at the size of another value",
        interval=lambda x, like: x,
        code="xp.broadcast_arrays(_0, _1)[0]",
        torch="torch.broadcast_tensors(_0, _1)[0]",
    ),
)


@dataclass(frozen=True)
class StateVariable:
    """A live state; it starts with a number or hyperparameter."""

    parameter: Parameter
    initial: Node
    old: Node
    following: Node


@dataclass(frozen=True)
class Lowered:
    """What one step computes.

    Attributes:
        program: the live program.
        roles: its constants and states by role.
        gradient: the gradient's leaf, whether or not the step reads it.
        direction: the update without the learning rate (and the decoupled weight decay).
        states: the live states.
        named: what the program calls a computed value.
    """

    program: Program
    roles: Roles
    gradient: Node
    direction: Node
    states: tuple[StateVariable, ...]
    named: dict[Node, str]

    def values(self) -> tuple[Node, ...]:
        """Every value that the step computes, operands first."""
        return tuple(reachable((self.direction, *(state.following for state in self.states))))

    def reads(self, leaf: str) -> bool:
        """Whether the step reads the leaf `weights`, `lr` or `t`."""
        return any(value.op == leaf for value in self.values())

    def ranges(self) -> Ranges:
        """The interval of every value, for all values of the hyperparameters."""
        known = {one.name: one.interval for one in self.roles.hyperparameters}

        def start(node: Node) -> Interval:
            return exactly(node.value) if node.is_constant else known[node.name]

        return Ranges(
            {state.parameter.name: start(state.initial) for state in self.states},
            {state.parameter.name: state.following for state in self.states},
            hyperparameters=known,
        )

    def name_for(self, value: Node) -> str:
        """What a value may be called: the program's word for it, or one for its op."""
        name = self.named.get(value, value.name)
        if not re.fullmatch(r"v\d+(_\w+)?", name):
            return name
        power = bias_correction(value)
        if power and power.args[0].op == HYPERPARAMETER and power.args[1].op == "t":
            return "bias_correction" + "".join(filter(str.isdigit, power.args[0].name))
        return value.row.noun or value.op

    def constants(self) -> list[str]:
        """The lines that define the constants without a short decimal."""
        found = {v.name: v.value for v in self.values() if v.op == CONSTANT and v.name}
        lines = [f"{name} = {number!r}  # in float32" for name, number in sorted(found.items())]
        return [""] + lines if lines else []

    @property
    def by_matrix(self) -> bool:
        """Whether arrays must be seen as matrices: something is kept or done by row or column."""
        small = (Kind.ROW, Kind.COL, Kind.MATRIX)
        kinds = {value.kind for value in self.values()}
        kinds |= {state.parameter.kind for state in self.states}
        return bool(kinds & set(small)) or any(value.row.matrixwise for value in self.values())


def is_fixed(value: Node) -> bool:
    """Whether a value is made of numbers and hyperparameters alone."""
    leaves = [part for part in reachable((value,)) if not part.args]
    return all(leaf.op in (CONSTANT, HYPERPARAMETER) for leaf in leaves)


def lower(program: Program) -> Lowered:
    """The live part of `program`, lowered.

    Raises:
        ExportError: it has an op whose row does not say how it is written.
    """
    return _Lowering(roles(program)).lowered()


class _Lowering:
    def __init__(self, found: Roles):
        self.roles = found
        self.program = found.program
        self.nodes = Nodes({**OPS, **{op.name: op for op in _EXPORT_OPS}}, commute=False)
        self.named: dict[Node, str] = {}
        self.hyperparameters: dict[Place, Hyperparameter] = {}
        self.ones: set[Place] = set()
        for one in found.hyperparameters:
            self.hyperparameters |= dict.fromkeys(one.places, one)
            self.ones |= set(one.unit_places)
        self.ones |= {*found.learning_rate.places, *found.learning_rate.unit_places}

    def lowered(self) -> Lowered:
        written = StatementGraph(self.program)
        made = {leaf: self._leaf(leaf) for leaf in written.parameters}
        for constant, place in written.places.items():
            if constant.is_constant:
                made[constant] = self._number(place, constant.value)
        for node in written.statements:
            if node.number == self.roles.decoupled:
                made[node] = self.nodes.constant(0.0)  # the alias adds it
            elif node in written.places:
                made[node] = self._number(written.places[node], constant_value(node.op))
            elif node.row.symbol:
                value = float(node.row.meaning(np))
                made[node] = self.nodes.constant(value, node.row.symbol)
            else:
                made[node] = self.apply(node.op, [made[arg] for arg in node.args], node.name)
        states = tuple(
            StateVariable(
                parameter,
                self._number((INITIAL, number), parameter.initial),
                made[state],
                made[following],
            )
            for number, (parameter, (state, following)) in enumerate(
                zip(self.program.states, written.following.items(), strict=True)
            )
        )
        gradient = made[written.parameters[1]]
        return Lowered(self.program, self.roles, gradient, made[written.update], states, self.named)

    # -- making values --------------------------------------------------------------------------

    def _call(self, op: str, args: list[Node], name: str) -> Node:
        made = self.nodes.call(op, *args)
        self.named.setdefault(made, name)
        return made

    def _leaf(self, leaf: Node) -> Node:
        if leaf.op == "lr" and self.roles.linear:
            return self.nodes.constant(1.0)  # the alias multiplies by it
        name = leaf.name if leaf.op == STATE else leaf.op
        return self.nodes.leaf(leaf.op, leaf.kind, name)

    def _number(self, place: Place, value: float) -> Node:
        if place in self.ones:
            return self.nodes.constant(1.0)
        one = self.hyperparameters.get(place)
        if one is None:
            return self.nodes.constant(value)
        return self.nodes.leaf(HYPERPARAMETER, Kind.SCALAR, one.name)

    def apply(self, op: str, args: list[Node], name: str) -> Node:
        """`op` of `args`, in terms of what both targets can write."""
        row = OPS[op]
        if op == "identity":
            return args[0]
        neutral = self._neutral(op, args)
        if neutral is not None:
            return neutral
        if row.reduction is not None:
            return self._reduction(row, args, name)
        if row.code is None:
            raise ExportError(f"not exported, since the op {op!r} has no code")
        return self._call(op, args, name)

    def _neutral(self, op: str, args: list[Node]) -> Node | None:
        """The other operand of a product with 1 or a sum with 0; a constant that is the same."""
        if op not in ("multiply", "add"):
            return None
        unit = 1.0 if op == "multiply" else 0.0
        for this, other in (args, args[::-1]):
            if this.is_constant and this.value == unit:
                return other
        return None

    # -- reductions -----------------------------------------------------------------------------

    def _reduction(self, row: Op, args: list[Node], name: str) -> Node:
        assert row.reduction is not None
        kind = common(arg.kind for arg in args)
        if row.of_number and meet(kind, row.reduction.scope) == kind:  # each its own only number
            return self.apply(row.of_number, args, name)
        if row.name in _DECOMPOSED:
            return _DECOMPOSED[row.name](self, args, name)
        if row.code is None:
            raise ExportError(f"not exported, since the op {row.name!r} has no code")
        return self._call(row.name, args, name)

    def global_norm(self, args: list[Node], name: str) -> Node:
        """The root of the sum of squares over all arrays."""
        squares = self._total(self.apply("square", args, f"{name}_squares"), f"{name}_squares")
        return self.apply("sqrt", [squares], name)

    def dot(self, args: list[Node], name: str) -> Node:
        """The sum of the products over all arrays."""
        return self._total(self.apply("multiply", args, name), f"{name}_dot")

    def cosine(self, args: list[Node], name: str) -> Node:
        """The inner product over the product of the norms."""
        x, y = args
        kind = common((x.kind, y.kind))
        norms = [
            self.apply("global_norm", [self._spread(this, other, kind)], f"{name}_norm")
            for this, other in ((x, y), (y, x))
        ]
        product = self.apply("multiply", norms, f"{name}_norms")
        return self.apply("divide", [self.dot(args, name), product], name)

    def clip(self, args: list[Node], name: str) -> Node:
        """x times a factor that brings its norm down."""
        x, c = args
        size = self.apply("global_norm", [x], f"{name}_norm")
        return self.apply(
            "multiply", [x, self._call("clip_scale", [size, c], f"{name}_scale")], name
        )

    def clip_by_rms(self, args: list[Node], name: str) -> Node:
        """x over how far its root mean square is above."""
        x, c = args
        ratio = self.apply("divide", [self.apply("rms", [x], f"{name}_rms"), c], f"{name}_ratio")
        excess = self.apply("maximum", [self.nodes.constant(1.0), ratio], f"{name}_excess")
        return self.apply("divide", [x, excess], name)

    def _total(self, x: Node, name: str) -> Node:
        """The sum over all arrays; a scalar is its own only number."""
        return x if x.kind == Kind.SCALAR else self._call("total", [x], name)

    def _spread(self, x: Node, like: Node, kind: Kind) -> Node:
        return x if x.kind == kind else self._call("spread", [x, like], "spread")


_DECOMPOSED: dict[str, Callable[[_Lowering, list[Node], str], Node]] = {
    "global_norm": _Lowering.global_norm,
    "dot": _Lowering.dot,
    "cosine_sim": _Lowering.cosine,
    "clip": _Lowering.clip,
    "clip_by_rms": _Lowering.clip_by_rms,
}
"""Reductions as files write them: from other ops, so that a sum over the model is one `total`."""
