"""The graph of a program, in which equal values are one node (hash consing).

A node is an op applied to other nodes, a constant, or a leaf. Leaves are the weights, the gradient,
the schedule inputs, and the values of states at the start of the step. Names, copies, dead
statements and repeated subexpressions do not appear in the graph. A graph consists of the node of
the update and, for each live state, the node of its next value. Algebra rewrites graphs, and
exported files are written from them.

Roles, equations and pictures refer to the statements and constants of the text. They use
`primitives.graph.statements`, which has the same nodes but does not merge equal values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from primitives.kinds import Kind, common
from primitives.op import Op
from primitives.ops import OPS
from primitives.program import SCHEDULE_INPUTS, Parameter, Program

CONSTANT = "constant"
WEIGHTS, GRADIENT, STATE, HYPERPARAMETER = "weights", "gradient", "state", "hyperparameter"
"""Values of `Node.op` for leaves. For a schedule input, `Node.op` is its name."""
_NONE: frozenset[str] = frozenset()
_NO_OP = Op("", "", lambda xp: None, "placeholder for nodes that are not ops")


class Node:
    """A constant, a leaf, or an op applied to other nodes.

    Nodes are compared by identity. `Nodes` and `StatementGraph` create them.

    Attributes:
        op: name of the op. For a node that is not an op: `CONSTANT`, or the type of the leaf, such
            as `STATE`.
        op_entry: the op's entry in the op table; an empty entry for nodes that are not ops.
        args: operands. The operands of a commutative op are in the order in which their nodes were
            created.
        value: value of a constant, rounded to float32.
        name: for a leaf, the name of the parameter; for a constant, an optional name.
        kind: kind of the value.
        depth: number of ops on the longest path to a leaf.
        leaves: names of the leaves that the value depends on.
        number: index of the node in the order of creation.
        is_constant: whether the node is a constant.
        is_call: whether the node is an op applied to other nodes.
        is_leaf: whether the node is an input of the step.
    """

    __slots__ = (
        "args", "depth", "is_call", "is_constant", "is_leaf", "kind", "leaves", "name", "number",
        "op", "op_entry", "value",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        op: str,
        op_entry: Op = _NO_OP,
        args: tuple[Node, ...] = (),
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ):
        self.number = number
        self.op = op
        self.op_entry = op_entry
        self.args = args
        self.kind = kind
        self.value = value
        self.name = name
        self.is_constant = op == CONSTANT
        self.is_call = op_entry is not _NO_OP
        self.is_leaf = not (self.is_call or self.is_constant)
        self.leaves: frozenset[str] = (
            frozenset([name]) if self.is_leaf else _NONE.union(*[arg.leaves for arg in args])
        )
        self.depth: int = 1 + max([a.depth for a in args], default=0) if self.is_call else 0

    def __repr__(self) -> str:
        if self.is_constant:
            return repr(shortest(self.value))
        return f"{self.op}({', '.join(map(repr, self.args))})" if self.is_call else self.name


class Nodes:
    """Factory of nodes that returns the same object for equal values.

    Args:
        ops: available ops, by name.
        commute: whether x + y and y + x are the same node.
    """

    def __init__(self, ops: Mapping[str, Op] = OPS, *, commute: bool = True):
        self._ops = ops
        self._commute = commute
        self._nodes: dict[tuple[object, ...], Node] = {}

    def constant(self, value: float, name: str = "") -> Node:
        """Return the node of a number, rounded to float32; -0.0 becomes 0.0."""
        value = float(np.float32(value)) + 0.0
        return self._make((CONSTANT, value, name), CONSTANT, value=value, name=name)

    def leaf(self, op: str, kind: Kind, name: str) -> Node:
        """Return the node of an input of the step."""
        return self._make((op, name, kind), op, kind=kind, name=name)

    def state(self, parameter: Parameter) -> Node:
        """Return the node of a state's value at the start of the step."""
        return self.leaf(STATE, parameter.kind, parameter.name)

    def call(self, op_name: str, *args: Node | float) -> Node:
        """Return the node of `op_name(*args)`.

        A copy (`identity`) returns the node of its operand. A synonym such as `ema` returns a node
        of the op that it is a synonym of (`interp`).
        """
        nodes = tuple([arg if isinstance(arg, Node) else self.constant(arg) for arg in args])
        if op_name == "identity":
            return nodes[0]
        op = self._ops[op_name]
        if op.same_as:
            op = self._ops[op.same_as]
        if op.commutative and self._commute and nodes[0].number > nodes[1].number:
            nodes = nodes[::-1]
        key = (op.name, *nodes)
        node = self._nodes.get(key)
        if node is None:
            kind = op.results[common([operand.kind for operand in nodes])]
            node = self._nodes[key] = Node(len(self._nodes), op.name, op, nodes, kind)
        return node

    def _make(
        self,
        key: tuple[object, ...],
        op: str,
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ) -> Node:
        node = self._nodes.get(key)
        if node is None:
            number = len(self._nodes)
            node = self._nodes[key] = Node(number, op, kind=kind, value=value, name=name)
        return node


@dataclass(frozen=True)
class Graph:
    """The graph of a program.

    Attributes:
        update: node of the update, which is subtracted from the weights.
        next_values: by name, the node of the next value of each state, in the order in which the
            program returns the states.
        states: parameters of the states, in the order of `next_values`.
    """

    update: Node
    next_values: Mapping[str, Node]
    states: tuple[Parameter, ...]

    @property
    def roots(self) -> tuple[Node, ...]:
        """The next values of the states, and the update."""
        return (*self.next_values.values(), self.update)

    @cached_property
    def live(self) -> tuple[Node, ...]:
        """Every node that the update or a state's next value depends on, operands first."""
        return tuple(reachable(self.roots))

    @cached_property
    def readers(self) -> Mapping[Node, tuple[Node, ...]]:
        """For each live node, the live nodes that have it as an operand."""
        readers: dict[Node, list[Node]] = {node: [] for node in self.live}
        for node in self.live:
            for arg in dict.fromkeys(node.args):
                readers[arg].append(node)
        return {node: tuple(nodes) for node, nodes in readers.items()}

    @cached_property
    def uses(self) -> Mapping[Node, int]:
        """Number of uses of each live node, as an operand or as a returned value."""
        count = dict.fromkeys(self.live, 0)
        for node in self.live:
            for arg in node.args:
                count[arg] += 1
        for root in self.roots:
            count[root] += 1
        return count

    @cached_property
    def size(self) -> int:
        """Number of statements that a program for this graph needs.

        Each op needs one statement. A returned value that is not the result of an op, or that is
        returned twice, needs a copy.
        """
        call_count = sum(node.is_call for node in self.live)
        changed_states = {
            name: node for name, node in self.next_values.items() if not _is_state(node, name)
        }
        distinct_results = {node for node in changed_states.values() if node.is_call}
        copies_of_states = len(changed_states) - len(distinct_results)
        returns_old_state = self.update.op == STATE and self.update.name in changed_states
        copies_of_update = int(self.update.is_constant or returns_old_state)
        return call_count + copies_of_states + copies_of_update

    def initial(self, state: str) -> float:
        """Return the value of `state` before the first step."""
        return next(each.initial for each in self.states if each.name == state)


def _is_state(node: Node, name: str) -> bool:
    return node.op == STATE and node.name == name


def reachable(roots: Iterable[Node]) -> Iterator[Node]:
    """Yield the roots and all nodes that they depend on, each once and after its operands."""
    seen: set[Node] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(arg, False) for arg in reversed(node.args)]


def read(program: Program, nodes: Nodes) -> tuple[Graph, dict[Node, str]]:
    """Build the graph of a program.

    Args:
        program: a valid program.
        nodes: factory of the nodes.

    Returns:
        The graph without dead states; and for each node of an op, the name of the first variable
        to which the program assigns its value.
    """
    states = {state.name: state for state in program.states}
    variables: dict[str, Node] = {}
    for index, parameter in enumerate(program.parameters):
        name = parameter.name
        if index < 2:
            variables[name] = nodes.leaf((WEIGHTS, GRADIENT)[index], Kind.TENSOR, name)
        elif name in states:
            variables[name] = nodes.state(states[name])
        else:
            variables[name] = nodes.leaf(name, Kind.SCALAR, name)
    names: dict[Node, str] = {}
    for target, op, args in program.statements:
        value = nodes.call(op, *[variables[arg] if isinstance(arg, str) else arg for arg in args])
        variables[target] = value
        if value.is_call:
            names.setdefault(value, target)
    next_values = {name: variables[name] for name in states}
    graph = Graph(variables[program.update], next_values, program.states)
    return without_dead_states(graph), names


def without_dead_states(graph: Graph) -> Graph:
    """Return the graph without states on which no update, in this or a later step, depends."""
    live = graph.update.leaves & graph.next_values.keys()
    pending = list(live)
    while pending:
        newly_live = (graph.next_values[pending.pop()].leaves & graph.next_values.keys()) - live
        live |= newly_live
        pending += newly_live
    if len(live) == len(graph.next_values):
        return graph
    return Graph(
        graph.update,
        {name: node for name, node in graph.next_values.items() if name in live},
        tuple(state for state in graph.states if state.name in live),
    )


def schedule_inputs(graph: Graph) -> tuple[str, ...]:
    """Return the names of the schedule inputs that `graph` reads."""
    op_names = {node.op for node in graph.live}
    return tuple(name for name in SCHEDULE_INPUTS if name in op_names)


def shortest(value: float) -> float:
    """Return the number with the fewest digits that rounds to the same float32."""
    return float(str(np.float32(value)))
