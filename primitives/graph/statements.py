"""The graph of a program's statements: a node for each statement and each constant in the text.

Copies and repeated values are nodes of their own here, so that each node has a place in the
program. A node's row is that of the op as it is written; its `op` is the op's first name (`interp`
for `ema`). `primitives.graph.nodes.read` gives the graph in which equal values are one node.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property

import numpy as np

from primitives.graph.analysis import analyse
from primitives.graph.nodes import CONSTANT, GRADIENT, STATE, WEIGHTS, Node, shortest
from primitives.ops import OPS
from primitives.program import Program

Place = tuple[int, int]
"""Where a constant is written: its statement and operand, or (INITIAL, n): the start of state n."""
INITIAL = -1


class StatementGraph:
    """A program's parameters and statements as nodes.

    Attributes:
        program: the program.
        parameters: a leaf for each.
        statements: a node for each.
        update: what is subtracted from the weights.
        following: for each state's leaf, in the order returned, what the state turns into.
        live_states: the states that some future update reads.
        live_statements: the statements that some update depends on.
        places: where each constant is written; for an op that gives one, (its statement, 0).
    """

    def __init__(self, program: Program):
        analysis = analyse(program)
        self.program = program
        self.places: dict[Node, Place] = {}
        self._first_constant = len(analysis.kinds)
        states = program.returns[1:]
        leaves = [
            Node(
                number,
                (WEIGHTS, GRADIENT)[number] if number < 2 else STATE if name in states else name,
                kind=analysis.kinds[number],
                name=name,
            )
            for number, (name, _, _) in enumerate(program.parameters)
        ]
        values = list(leaves)
        for index, statement in enumerate(program.statements):
            op = OPS[statement.op]
            args = tuple(
                values[one] if type(one) is int else self._constant(float(one), (index, place))
                for place, one in enumerate(analysis.operands[index])
            )
            kind = analysis.kinds[len(values)]
            name = op.same_as or op.name
            values.append(Node(len(values), name, op, args, kind, name=statement.target))
            if not args and op.symbol is None:
                self.places[values[-1]] = (index, 0)
        self.parameters = tuple(leaves)
        self.statements = tuple(values[len(leaves) :])
        self.update = values[analysis.outputs[0]]
        self.following = {leaves[n]: values[v] for n, v in analysis.next_value.items()}
        self.live_states = tuple(values[number] for number in analysis.live_states)
        self.live_statements = tuple(self.statements[index] for index in analysis.live_statements)

    def _constant(self, value: float, place: Place) -> Node:
        made = Node(self._first_constant + len(self.places), CONSTANT, value=value)
        self.places[made] = place
        return made

    @cached_property
    def users(self) -> dict[Node, list[tuple[Node, int]]]:
        """For each node the statements that read it, and as which operand."""
        found: dict[Node, list[tuple[Node, int]]] = defaultdict(list)
        for statement in self.statements:
            for place, operand in enumerate(statement.args):
                found[operand].append((statement, place))
        return found

    def index(self, statement: Node) -> int:
        """Where a statement stands."""
        return statement.number - len(self.parameters)

    def constant(self, node: Node) -> tuple[float, Place] | None:
        """The constant that a node is, or a copy of, with the place where it is written."""
        node = resolved(node)
        if node not in self.places:
            return None
        return (node.value if node.is_constant else constant_value(node.op)), self.places[node]


def resolved(node: Node) -> Node:
    """What a node is a copy of, or the node itself."""
    while node.op == "identity":
        node = node.args[0]
    return node


def constant_value(op: str) -> float:
    """The number that an op without operands gives, in the fewest digits of a float32."""
    return shortest(float(OPS[op].meaning(np)))


def match_average(node: Node, state: Node) -> tuple[Node, Node] | None:
    """What is new and the decay, where `node` is an average of the old `state` with that decay."""
    node = resolved(node)
    if node.op != "interp" or resolved(node.args[1]) is not state:
        return None
    return node.args[0], node.args[2]


def bias_correction(node: Node) -> Node | None:
    """The power b^t where `node` is 1 - b^t."""
    node = resolved(node)
    if node.op != "subtract":
        return None
    one, power = map(resolved, node.args)
    return power if one.is_constant and one.value == 1 and power.op == "power" else None
