"""The one graph: what a program computes, as immutable nodes of which equal ones are one object.

A node is an op of other nodes, a constant, or a leaf: the weights, the gradient, a schedule input,
a state's value at the start of the step. So names, copies, dead statements and common
subexpressions do not exist here. A graph is the node of the update and, for each live state, the
node that it turns into. Algebra rewrites graphs; exports are written from them.

Roles, equations and pictures speak of statements and of constants in the text; they read the same
nodes from `primitives.graph.statements`, where equal values are kept apart.
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
"""What leaves are, beside schedule inputs, which go by their names."""
_NONE: frozenset[str] = frozenset()
_NO_OP = Op("", "", lambda xp: None, "what is no op: none of the facts")


class Node:
    """A constant, a leaf, or an op of other nodes.

    Nodes are made by `Nodes` alone and compare by identity.

    Attributes:
        op: an op's name; for what is no op, `CONSTANT` or what the leaf is.
        row: the op's row in the table of ops; one without facts for what is no op.
        args: the operands; a commutative op's in the order in which they were made.
        value: a constant's value, a float32.
        name: a leaf's name, which is that of its parameter in a program; a constant's, if it has
            one.
        kind: the value's kind.
        depth: ops on the longest way to a leaf.
        leaves: the names of the leaves that it is made of.
        number: counts nodes in the order in which they were made.
        is_constant: it is a number of the program's text.
        is_call: it is an op of other nodes: what takes a statement.
        is_leaf: it comes from outside of the step and has a name.
    """

    __slots__ = (
        "args", "depth", "is_call", "is_constant", "is_leaf", "kind", "leaves", "name", "number",
        "op", "row", "value",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        op: str,
        row: Op = _NO_OP,
        args: tuple[Node, ...] = (),
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ):
        self.number = number
        self.op = op
        self.row = row
        self.args = args
        self.kind = kind
        self.value = value
        self.name = name
        self.is_constant = op == CONSTANT
        self.is_call = row is not _NO_OP
        self.is_leaf = not (self.is_call or self.is_constant)
        self.leaves: frozenset[str] = (
            frozenset([name]) if self.is_leaf else _NONE.union(*[a.leaves for a in args])
        )
        self.depth: int = 1 + max([a.depth for a in args], default=0) if self.is_call else 0

    def __repr__(self) -> str:
        if self.is_constant:
            return repr(shortest(self.value))
        return f"{self.op}({', '.join(map(repr, self.args))})" if self.is_call else self.name


class Nodes:
    """Makes nodes, each once.

    Args:
        rows: the ops that there are.
        commute: whether x + y and y + x are one node.
    """

    def __init__(self, rows: Mapping[str, Op] = OPS, *, commute: bool = True):
        self._rows = rows
        self._commute = commute
        self._known: dict[tuple[object, ...], Node] = {}

    def constant(self, value: float, name: str = "") -> Node:
        """A number, as the float32 that programs compute with; -0.0 is 0.0."""
        value = float(np.float32(value)) + 0.0
        return self._make((CONSTANT, value, name), CONSTANT, value=value, name=name)

    def leaf(self, op: str, kind: Kind, name: str) -> Node:
        """What comes from outside of the step."""
        return self._make((op, name, kind), op, kind=kind, name=name)

    def state(self, parameter: Parameter) -> Node:
        """The value of a state at the start of the step."""
        return self.leaf(STATE, parameter.kind, parameter.name)

    def call(self, op_name: str, *args: Node | float) -> Node:
        """`op_name(*args)`; a copy is what is copied, and an op under another name is one op."""
        nodes = tuple([a if isinstance(a, Node) else self.constant(a) for a in args])
        if op_name == "identity":
            return nodes[0]
        op = self._rows[op_name]
        if op.same_as:
            op = self._rows[op.same_as]
        if op.commutative and self._commute and nodes[0].number > nodes[1].number:
            nodes = nodes[::-1]
        key = (op.name, *nodes)
        known = self._known.get(key)
        if known is None:
            kind = op.results[common([node.kind for node in nodes])]
            known = self._known[key] = Node(len(self._known), op.name, op, nodes, kind)
        return known

    def _make(
        self,
        key: tuple[object, ...],
        op: str,
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ) -> Node:
        known = self._known.get(key)
        if known is None:
            number = len(self._known)
            known = self._known[key] = Node(number, op, kind=kind, value=value, name=name)
        return known


@dataclass(frozen=True)
class Graph:
    """What a program computes.

    Attributes:
        update: what is subtracted from the weights.
        following: for each state, in the order returned, what it turns into.
        states: the states' parameters, in the same order.
    """

    update: Node
    following: Mapping[str, Node]
    states: tuple[Parameter, ...]

    @property
    def roots(self) -> tuple[Node, ...]:
        """What the states turn into, and the update."""
        return (*self.following.values(), self.update)

    @cached_property
    def live(self) -> tuple[Node, ...]:
        """Every node that the update or a state's next value is made of, operands first."""
        return tuple(reachable(self.roots))

    @cached_property
    def readers(self) -> Mapping[Node, tuple[Node, ...]]:
        """The live nodes that have a node among their operands."""
        found: dict[Node, list[Node]] = {node: [] for node in self.live}
        for node in self.live:
            for arg in dict.fromkeys(node.args):
                found[arg].append(node)
        return {node: tuple(by) for node, by in found.items()}

    @cached_property
    def uses(self) -> Mapping[Node, int]:
        """How often a node is read, by other nodes and by what is returned."""
        count = dict.fromkeys(self.live, 0)
        for node in self.live:
            for arg in node.args:
                count[arg] += 1
        for root in self.roots:
            count[root] += 1
        return count

    @cached_property
    def size(self) -> int:
        """Statements that it takes: one for each op, and copies for what is returned as it came."""
        calls = sum(node.is_call for node in self.live)
        changed = [(s, n) for s, n in self.following.items() if not _is_leaf(n, s)]
        copies = len(changed) - len({n for _, n in changed if n.is_call})
        old_state = self.update.op == STATE and self.update.name in dict(changed)
        return calls + copies + (self.update.is_constant or old_state)

    def initial(self, state: str) -> float:
        """The value that `state` has before the first step."""
        return next(s.initial for s in self.states if s.name == state)


def _is_leaf(node: Node, name: str) -> bool:
    return node.op == STATE and node.name == name


def reachable(roots: Iterable[Node]) -> Iterator[Node]:
    """Each node that `roots` are made of, once, operands first."""
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
    """The graph of `program`, and the name that each op's value has in it."""
    declared = {state.name: state for state in program.states}
    environment: dict[str, Node] = {}
    for number, parameter in enumerate(program.parameters):
        name = parameter.name
        if number < 2:
            environment[name] = nodes.leaf((WEIGHTS, GRADIENT)[number], Kind.TENSOR, name)
        elif name in declared:
            environment[name] = nodes.state(declared[name])
        else:
            environment[name] = nodes.leaf(name, Kind.SCALAR, name)
    named: dict[Node, str] = {}
    for target, op, args in program.statements:
        value = nodes.call(op, *[environment[a] if isinstance(a, str) else a for a in args])
        environment[target] = value
        if value.is_call:
            named.setdefault(value, target)
    following = {name: environment[name] for name in declared}
    graph = Graph(environment[program.update], following, program.states)
    return without_dead_states(graph), named


def without_dead_states(graph: Graph) -> Graph:
    """`graph` without the states that no update depends on, across steps."""
    live = graph.update.leaves & graph.following.keys()
    waiting = list(live)
    while waiting:
        more = (graph.following[waiting.pop()].leaves & graph.following.keys()) - live
        live |= more
        waiting += more
    if len(live) == len(graph.following):
        return graph
    return Graph(
        graph.update,
        {name: node for name, node in graph.following.items() if name in live},
        tuple(state for state in graph.states if state.name in live),
    )


def schedule_inputs(graph: Graph) -> tuple[str, ...]:
    """The schedule inputs that `graph` reads."""
    read = {node.op for node in graph.live}
    return tuple(name for name in SCHEDULE_INPUTS if name in read)


def shortest(value: float) -> float:
    """The number of fewest digits that is the same float32."""
    return float(str(np.float32(value)))
