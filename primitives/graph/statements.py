"""The statement graph: one node for each statement and each constant in a program's text.

Copies and repeated values are separate nodes, so every node corresponds to one position in the
program. `Node.op_entry` is the table entry of the op in the text. `Node.op` is the name of this op;
for a synonym such as `ema`, `Node.op` is the name of the original op (`interp`). The graph of
`primitives.graph.nodes.read`, in contrast, has one node for all equal values.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property

import numpy as np

from primitives.graph.analysis import analyse
from primitives.graph.nodes import CONSTANT, GRADIENT, STATE, WEIGHTS, Node, shortest
from primitives.ops import OPS
from primitives.program import Program

Position = tuple[int, int]
"""Position of a constant in a program.

A position is (index of the statement, index of the operand), or (INITIAL, n) for the initial value
of the state with index n.
"""
INITIAL = -1


class StatementGraph:
    """The parameters, statements and constants of a program as nodes.

    Attributes:
        program: the program.
        parameters: leaf of each parameter.
        statements: node of each statement.
        update: node of the update.
        next_values: by the leaf of each state, the node of the state's next value, in the order in
            which the program returns the states.
        live_states: leaves of the states that the update of some step depends on.
        live_statements: nodes of the statements that the update of some step depends on.
        positions: position of each constant; (index of the statement, 0) for an op that returns a
            constant, such as `get_eps`.
    """

    def __init__(self, program: Program):
        analysis = analyse(program)
        self.program = program
        self.positions: dict[Node, Position] = {}
        self._first_constant = len(analysis.kinds)
        leaves = [
            Node(number, leaf_op, kind=analysis.kinds[number], name=parameter.name)
            for number, (parameter, leaf_op) in enumerate(
                zip(program.parameters, _leaf_ops(program), strict=True)
            )
        ]
        values = list(leaves)
        for index, statement in enumerate(program.statements):
            op = OPS[statement.op]
            args = tuple(
                values[operand]
                if type(operand) is int
                else self._constant(float(operand), (index, operand_index))
                for operand_index, operand in enumerate(analysis.operands[index])
            )
            kind = analysis.kinds[len(values)]
            op_name = op.same_as or op.name
            values.append(Node(len(values), op_name, op, args, kind, name=statement.target))
            if not args and op.symbol is None:
                self.positions[values[-1]] = (index, 0)
        self.parameters = tuple(leaves)
        self.statements = tuple(values[len(leaves) :])
        self.update = values[analysis.outputs[0]]
        self.next_values = {
            leaves[state]: values[value] for state, value in analysis.next_value.items()
        }
        self.live_states = tuple(values[number] for number in analysis.live_states)
        self.live_statements = tuple(self.statements[index] for index in analysis.live_statements)

    def _constant(self, value: float, position: Position) -> Node:
        node = Node(self._first_constant + len(self.positions), CONSTANT, value=value)
        self.positions[node] = position
        return node

    @cached_property
    def users(self) -> dict[Node, list[tuple[Node, int]]]:
        """For each node, the statements that read it, each with the index of the operand."""
        users: dict[Node, list[tuple[Node, int]]] = defaultdict(list)
        for statement in self.statements:
            for operand_index, operand in enumerate(statement.args):
                users[operand].append((statement, operand_index))
        return users

    def index(self, statement: Node) -> int:
        """Return the index of a statement's node in the program."""
        return statement.number - len(self.parameters)

    def constant(self, node: Node) -> tuple[float, Position] | None:
        """Return the value and position of a constant; None if `node` is not a constant.

        A copy of a constant counts as a constant.
        """
        node = resolved(node)
        if node not in self.positions:
            return None
        return (node.value if node.is_constant else constant_value(node.op)), self.positions[node]


def _leaf_ops(program: Program) -> list[str]:
    """Return `Node.op` for the leaf of each parameter."""
    states = program.returns[1:]
    others = [
        STATE if parameter.name in states else parameter.name
        for parameter in program.parameters[2:]
    ]
    return [WEIGHTS, GRADIENT, *others]


def resolved(node: Node) -> Node:
    """Return the original of a node that is a copy; other nodes are returned unchanged."""
    while node.op == "identity":
        node = node.args[0]
    return node


def constant_value(op: str) -> float:
    """Return the value of an op without operands, with the fewest digits that float32 needs."""
    return shortest(float(OPS[op].meaning(np)))


def match_average(node: Node, state: Node) -> tuple[Node, Node] | None:
    """Match a moving average `interp(new, state, decay)` of which `state` is the old value.

    Returns:
        The nodes of the new value and of the decay; None if `node` has another form.
    """
    node = resolved(node)
    if node.op != "interp" or resolved(node.args[1]) is not state:
        return None
    return node.args[0], node.args[2]


def bias_correction(node: Node) -> Node | None:
    """Match a bias correction 1 - b^t and return the node of b^t; None for other nodes."""
    node = resolved(node)
    if node.op != "subtract":
        return None
    one, power = map(resolved, node.args)
    is_one = one.is_constant and one.value == 1
    return power if is_one and power.op == "power" else None
