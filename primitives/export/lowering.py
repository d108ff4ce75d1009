"""Lowering of a program to a graph of ops that both targets have code for.

The graph contains the live program. Constants are replaced by named hyperparameters, and ops such
as `global_norm` and `clip` by simpler ops. Three ops exist only here: `total`, the sum of a value
over all arrays; `clip_scale`, the factor by which `clip` multiplies; `spread`, the first operand
broadcast to the shape of the second.
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
    Position,
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
    """Raised for a program that cannot be exported; the message gives the reason."""


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
        "the factor that reduces a norm above c to c",
        interval=lambda norm, c: UNIT if c.low >= 0 else ANYTHING,
        code="xp.where(_0 > _1, _1 / _0, 1.0)",
        guarded_code="xp.where(_0 > _1, _divide(_1, _0), 1.0)",
        code_valid=lambda norm, c: c.low >= 0,
    ),
    Op(
        "spread",
        "xx",
        lambda xp, x, like: xp.broadcast_arrays(x, like)[0],
        "x broadcast to the shape of another value",
        interval=lambda x, like: x,
        code="xp.broadcast_arrays(_0, _1)[0]",
        torch="torch.broadcast_tensors(_0, _1)[0]",
    ),
)


@dataclass(frozen=True)
class StateVariable:
    """A live state.

    Attributes:
        parameter: the state as the program declares it.
        initial: the initial value, a constant or a hyperparameter.
        old_value: the value before a step.
        next_value: the value after a step.
    """

    parameter: Parameter
    initial: Node
    old_value: Node
    next_value: Node


@dataclass(frozen=True)
class Lowered:
    """The lowered graph of one step.

    Attributes:
        program: the live program.
        roles: the roles of its constants and states.
        gradient: the leaf of the gradient, whether or not the step reads it.
        direction: the update before learning rate and decoupled weight decay are applied.
        states: the live states.
        program_names: the names of computed values in the program.
    """

    program: Program
    roles: Roles
    gradient: Node
    direction: Node
    states: tuple[StateVariable, ...]
    program_names: dict[Node, str]

    def values(self) -> tuple[Node, ...]:
        """Return all values that the step reads or computes, operands first."""
        return tuple(reachable((self.direction, *(state.next_value for state in self.states))))

    def reads(self, leaf: str) -> bool:
        """Whether the step reads the leaf `weights`, `lr` or `t`."""
        return any(value.op == leaf for value in self.values())

    def ranges(self) -> Ranges:
        """Return intervals that hold for all admissible values of the hyperparameters."""
        intervals = {
            hyperparameter.name: hyperparameter.interval
            for hyperparameter in self.roles.hyperparameters
        }

        def initial_interval(node: Node) -> Interval:
            return exactly(node.value) if node.is_constant else intervals[node.name]

        return Ranges(
            {state.parameter.name: initial_interval(state.initial) for state in self.states},
            {state.parameter.name: state.next_value for state in self.states},
            hyperparameters=intervals,
        )

    def name_for(self, value: Node) -> str:
        """Return a name for a value: its name in the program, or a name for the op's result."""
        name = self.program_names.get(value, value.name)
        if not re.fullmatch(r"v\d+(_\w+)?", name):
            return name
        power = bias_correction(value)
        if power and power.args[0].op == HYPERPARAMETER and power.args[1].op == "t":
            return "bias_correction" + "".join(filter(str.isdigit, power.args[0].name))
        return value.op_entry.noun or value.op

    def constants(self) -> list[str]:
        """Return the lines that define named constants, which have no short decimal notation."""
        constants = {
            value.name: value.value
            for value in self.values()
            if value.op == CONSTANT and value.name
        }
        lines = [f"{name} = {number!r}  # in float32" for name, number in sorted(constants.items())]
        return [""] + lines if lines else []

    @property
    def uses_matrices(self) -> bool:
        """Whether arrays are viewed as matrices, because a state or an op is per row or column."""
        matrix_kinds = {Kind.ROW, Kind.COL, Kind.MATRIX}
        kinds = {value.kind for value in self.values()}
        kinds |= {state.parameter.kind for state in self.states}
        return bool(kinds & matrix_kinds) or any(
            value.op_entry.matrixwise for value in self.values()
        )


def is_fixed(value: Node) -> bool:
    """Whether a value depends on constants and hyperparameters only."""
    leaves = [node for node in reachable((value,)) if not node.args]
    return all(leaf.op in (CONSTANT, HYPERPARAMETER) for leaf in leaves)


def lower(program: Program) -> Lowered:
    """Return the lowered graph of the live part of `program`.

    Args:
        program: the program to lower.

    Raises:
        ExportError: the program has an op without code.
        ProgramError: the program is not valid.
    """
    return _Lowering(roles(program)).lower()


class _Lowering:
    """Builds the lowered graph of one program.

    Attributes:
        unit_positions: positions of constants that are 1 in the file, because another factor
            includes their values.
    """

    def __init__(self, roles: Roles):
        self.roles = roles
        self.program = roles.program
        self.nodes = Nodes({**OPS, **{op.name: op for op in _EXPORT_OPS}}, commute=False)
        self.program_names: dict[Node, str] = {}
        self.hyperparameters: dict[Position, Hyperparameter] = {}
        self.unit_positions: set[Position] = set()
        for hyperparameter in roles.hyperparameters:
            self.hyperparameters |= dict.fromkeys(hyperparameter.positions, hyperparameter)
            self.unit_positions |= set(hyperparameter.unit_positions)
        self.unit_positions |= {*roles.learning_rate.positions, *roles.learning_rate.unit_positions}

    def lower(self) -> Lowered:
        graph = StatementGraph(self.program)
        lowered = {leaf: self._leaf(leaf) for leaf in graph.parameters}
        for constant, position in graph.positions.items():
            if constant.is_constant:
                lowered[constant] = self._number(position, constant.value)
        for node in graph.statements:
            if node.number == self.roles.weight_decay_node:
                lowered[node] = self.nodes.constant(0.0)  # the optimizer adds weight decay itself
            elif node in graph.positions:
                lowered[node] = self._number(graph.positions[node], constant_value(node.op))
            elif node.op_entry.symbol:
                value = float(node.op_entry.meaning(np))
                lowered[node] = self.nodes.constant(value, node.op_entry.symbol)
            else:
                lowered[node] = self.apply(node.op, [lowered[arg] for arg in node.args], node.name)
        states = tuple(
            StateVariable(
                parameter,
                self._number((INITIAL, number), parameter.initial),
                lowered[state],
                lowered[next_value],
            )
            for number, (parameter, (state, next_value)) in enumerate(
                zip(self.program.states, graph.next_values.items(), strict=True)
            )
        )
        gradient, direction = lowered[graph.parameters[1]], lowered[graph.update]
        return Lowered(self.program, self.roles, gradient, direction, states, self.program_names)

    # -- nodes ----------------------------------------------------------------------------------

    def _call(self, op: str, args: list[Node], name: str) -> Node:
        node = self.nodes.call(op, *args)
        self.program_names.setdefault(node, name)
        return node

    def _leaf(self, leaf: Node) -> Node:
        if leaf.op == "lr" and self.roles.lr_is_factor:
            return self.nodes.constant(1.0)  # the optimizer multiplies by the learning rate itself
        name = leaf.name if leaf.op == STATE else leaf.op
        return self.nodes.leaf(leaf.op, leaf.kind, name)

    def _number(self, position: Position, value: float) -> Node:
        """Return the node of the constant `value` at `position`: a hyperparameter or a constant."""
        if position in self.unit_positions:
            return self.nodes.constant(1.0)
        hyperparameter = self.hyperparameters.get(position)
        if hyperparameter is None:
            return self.nodes.constant(value)
        return self.nodes.leaf(HYPERPARAMETER, Kind.SCALAR, hyperparameter.name)

    def apply(self, op: str, args: list[Node], name: str) -> Node:
        """Return the result of an op, as a graph of ops that both targets have code for.

        Args:
            op: the name of the op.
            args: its operands.
            name: the name of the result in the program.

        Raises:
            ExportError: the op has no code.
        """
        op_entry = OPS[op]
        if op == "identity":
            return args[0]
        other = self._without_neutral_element(op, args)
        if other is not None:
            return other
        if op_entry.reduction is not None:
            return self._reduction(op_entry, args, name)
        if op_entry.code is None:
            raise ExportError(f"not exported: the op {op!r} has no code for export")
        return self._call(op, args, name)

    def _without_neutral_element(self, op: str, args: list[Node]) -> Node | None:
        """Return the other operand of a product with 1 or of a sum with 0, else None."""
        if op not in ("multiply", "add"):
            return None
        neutral = 1.0 if op == "multiply" else 0.0
        for arg, other in (args, args[::-1]):
            if arg.is_constant and arg.value == neutral:
                return other
        return None

    # -- reductions -----------------------------------------------------------------------------

    def _reduction(self, op_entry: Op, args: list[Node], name: str) -> Node:
        assert op_entry.reduction is not None
        kind = common(arg.kind for arg in args)
        # The reduction of a single number is another op, such as `abs` for a norm.
        if op_entry.of_number and meet(kind, op_entry.reduction.kind) == kind:
            return self.apply(op_entry.of_number, args, name)
        if op_entry.name in _DECOMPOSITIONS:
            return _DECOMPOSITIONS[op_entry.name](self, args, name)
        if op_entry.code is None:
            raise ExportError(f"not exported: the op {op_entry.name!r} has no code for export")
        return self._call(op_entry.name, args, name)

    def global_norm(self, args: list[Node], name: str) -> Node:
        """Return sqrt(total(x^2))."""
        squares = self._total(self.apply("square", args, f"{name}_squares"), f"{name}_squares")
        return self.apply("sqrt", [squares], name)

    def dot(self, args: list[Node], name: str) -> Node:
        """Return total(x * y)."""
        return self._total(self.apply("multiply", args, name), f"{name}_dot")

    def cosine(self, args: list[Node], name: str) -> Node:
        """Return dot(x, y) / (global_norm(x) * global_norm(y))."""
        x, y = args
        kind = common((x.kind, y.kind))
        norms = [
            self.apply("global_norm", [self._spread(operand, other, kind)], f"{name}_norm")
            for operand, other in ((x, y), (y, x))
        ]
        product = self.apply("multiply", norms, f"{name}_norms")
        return self.apply("divide", [self.dot(args, name), product], name)

    def clip(self, args: list[Node], name: str) -> Node:
        """Return x * clip_scale(global_norm(x), c)."""
        x, c = args
        norm = self.apply("global_norm", [x], f"{name}_norm")
        return self.apply(
            "multiply", [x, self._call("clip_scale", [norm, c], f"{name}_scale")], name
        )

    def clip_by_rms(self, args: list[Node], name: str) -> Node:
        """Return x / max(1, rms(x) / c)."""
        x, c = args
        ratio = self.apply("divide", [self.apply("rms", [x], f"{name}_rms"), c], f"{name}_ratio")
        excess = self.apply("maximum", [self.nodes.constant(1.0), ratio], f"{name}_excess")
        return self.apply("divide", [x, excess], name)

    def _total(self, x: Node, name: str) -> Node:
        """Return the sum of x over all arrays; the sum of a scalar is the scalar."""
        return x if x.kind == Kind.SCALAR else self._call("total", [x], name)

    def _spread(self, x: Node, like: Node, kind: Kind) -> Node:
        return x if x.kind == kind else self._call("spread", [x, like], "spread")


_DECOMPOSITIONS: dict[str, Callable[[_Lowering, list[Node], str], Node]] = {
    "global_norm": _Lowering.global_norm,
    "dot": _Lowering.dot,
    "cosine_sim": _Lowering.cosine,
    "clip": _Lowering.clip,
    "clip_by_rms": _Lowering.clip_by_rms,
}
"""Reductions that are replaced by simpler ops, so that `total` is the only sum over the model."""
