"""Conversion of graphs to programs: one statement per node, in an order independent of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from primitives.algebra.context import Context
from primitives.algebra.order import Rank
from primitives.graph.nodes import STATE, Graph, Node, schedule_inputs, shortest
from primitives.ops import ALIASES, OPS
from primitives.program import Argument, Parameter, Program, Statement


def write(context: Context, source: Program, names: Mapping[Node, str]) -> Program:
    """Return a program that computes the graph of `context`.

    Each statement follows the statements that it reads; states come before the update. A state is
    replaced after all readers of its old value. If states read each other in a cycle, a new value
    is kept in a copy until the old one has been read.

    Args:
        context: the graph.
        source: the program whose parameters are declared again.
        names: preferred names of the values of nodes. Where a name is in use, `v1`, `v2`, ... are
            used instead.
    """
    return _Writer(context.graph, context.rank, source, names).program()


@dataclass(frozen=True)
class _PlannedStatement:
    """A statement of the program to write, without names.

    Attributes:
        node: the value that the statement computes.
        state: the state that the statement replaces; None for an intermediate value.
        copy: whether the statement is a copy of `node`.
        deferred: whether the value first gets another name, because later statements read the
            state's old value. A copy at the end of the program then replaces the state.
    """

    node: Node
    state: str | None = None
    copy: bool = False
    deferred: bool = False

    @property
    def reads(self) -> tuple[Node, ...]:
        return (self.node,) if self.copy else self.node.args


@dataclass
class _Writer:
    """Orders the statements.

    Attributes:
        graph: the graph to write.
        rank: sort key of nodes.
        source: the program whose parameters are declared again.
        names: preferred names of the values of nodes.
        statements: the statements so far.
        planned: nodes that have a statement.
        replaced: states that a statement replaces.
        waiting: states whose new value waits until all readers of the old value are planned.
        next_value_of: for each node that is a state's next value, the first such state.
        copies_update: whether the update needs a statement that copies it.
    """

    graph: Graph
    rank: Callable[[Node], Rank]
    source: Program
    names: Mapping[Node, str]
    statements: list[_PlannedStatement] = field(default_factory=list)
    planned: set[Node] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    next_value_of: dict[Node, str] = field(default_factory=dict)
    copies_update: bool = field(init=False)

    def __post_init__(self) -> None:
        for state, node in self.graph.next_values.items():
            if node.is_call:
                self.next_value_of.setdefault(node, state)
        self.copies_update = self._must_copy_update()

    def program(self) -> Program:
        for state in self.graph.next_values:
            self._plan_state(state)
        self._plan(self.graph.update)
        if self.copies_update and self.graph.update.is_constant:
            self.statements.append(_PlannedStatement(self.graph.update, copy=True))
        return self._named_program()

    def _must_copy_update(self) -> bool:
        update = self.graph.update
        if update.op == STATE:
            return self.graph.next_values[update.name] is not update
        return update.is_constant

    def _plan_state(self, state: str) -> None:
        """Plan the statements for the next value of `state`, after all readers of the old value."""
        node = self.graph.next_values[state]
        if state in self.replaced or state in self.waiting:
            return
        if node.op == STATE and node.name == state:
            return
        if self.next_value_of.get(node) == state:
            self._plan(node)
            return
        self._plan(node)
        self.waiting.add(state)
        deferred = not self._plan_readers(state, excluding=None)
        self.waiting.discard(state)
        self.statements.append(_PlannedStatement(node, state, copy=True, deferred=deferred))
        self.replaced.add(state)

    def _plan(self, node: Node) -> None:
        """Plan the statements for `node` and its operands."""
        if node in self.planned or not node.is_call:
            return
        state = self.next_value_of.get(node)
        for arg in self._sorted(node.args):
            self._plan(arg)
        if state is None:
            self.statements.append(_PlannedStatement(node))
            self.planned.add(node)
            return
        self.waiting.add(state)
        deferred = not self._plan_readers(state, excluding=node)
        self.waiting.discard(state)
        self.statements.append(_PlannedStatement(node, state, deferred=deferred))
        self.planned.add(node)
        self.replaced.add(state)

    def _plan_readers(self, state: str, excluding: Node | None) -> bool:
        """Plan the readers of the old value of `state`; return whether all could be planned."""
        leaf = next((n for n in self.graph.live if n.op == STATE and n.name == state), None)
        if leaf is None:
            return True
        all_planned = True
        for reader in sorted(self.graph.readers[leaf], key=self.rank):
            if reader is excluding or reader in self.planned:
                continue
            if self._reads_waiting_state(reader):
                all_planned = False
                continue
            self._plan(reader)
        for other, node in self.graph.next_values.items():
            if node is leaf and other != state and other not in self.replaced:
                if other in self.waiting:
                    all_planned = False
                    continue
                self._plan_state(other)
        if self.graph.update is leaf and self.copies_update and state not in self.replaced:
            self.statements.append(_PlannedStatement(leaf, copy=True))
        return all_planned

    def _reads_waiting_state(self, node: Node) -> bool:
        """Whether `node` depends on the next value of a state in `waiting`."""
        stack = [node]
        while stack:
            operand = stack.pop()
            if operand in self.planned:
                continue
            if self.next_value_of.get(operand) in self.waiting:
                return True
            stack += operand.args
        return False

    def _sorted(self, args: Iterable[Node]) -> list[Node]:
        return sorted(args, key=self.rank)

    def _named_program(self) -> Program:
        return _Naming(self).program()


class _Naming:
    """Names the values of planned statements and writes the program.

    A value gets its preferred name unless the current value of this name is still to be read.

    Attributes:
        reads_left: the number of remaining reads of each value.
        value_of: the value that a name has at this point of the program.
        name_of: the name of each value at this point of the program.
        reserved: names that no other value may take.
        taken: names that `v1`, `v2`, ... must differ from.
    """

    def __init__(self, writer: _Writer):
        self.writer = writer
        self.graph = writer.graph
        self.parameters = self._parameters()
        self.reads_left = self._reads()
        self.value_of: dict[str, Node | None] = {}
        self.name_of: dict[Node, str] = {}
        for node in self.graph.live:
            if node.is_leaf:
                self.value_of[node.name] = node
                self.name_of[node] = node.name
        self.reserved = set(self.graph.next_values)
        self.last_number = 0
        self.taken = {p.name for p in self.parameters} | set(writer.names.values())
        self.statements: list[Statement] = []

    def program(self) -> Program:
        deferred: list[tuple[str, str]] = []
        update = ""
        for planned in self.writer.statements:
            args = [self._argument(node) for node in self._operands(planned)]
            for node in planned.reads:
                self.reads_left[node] -= 1
            op = "identity" if planned.copy else self._op_name(planned)
            state, is_deferred = planned.state, planned.deferred
            target = state if state and not is_deferred else self._name(planned)
            if state and is_deferred:
                deferred.append((state, target))
            self.statements.append(Statement(target, op, tuple(args)))
            if planned.copy and state is None:
                update = target
                self.reserved.add(target)
            self.value_of[target] = None if planned.copy else planned.node
            if not planned.copy:
                self.name_of[planned.node] = target
            elif is_deferred:
                self.reserved.add(target)
        update = update or self.name_of[self.graph.update]
        self.statements += [Statement(name, "identity", (copy,)) for name, copy in deferred]
        returns = (update, *self.graph.next_values)
        return Program(self.parameters, tuple(self.statements), returns)

    def _parameters(self) -> tuple[Parameter, ...]:
        source = self.writer.source
        needed = {*self.graph.next_values, *schedule_inputs(self.graph)}
        by_name = {state.name: state for state in self.graph.states}
        rest = [p for p in source.parameters[2:] if p.name in needed]
        rest += [s for s in self.graph.states if s.name not in {p.name for p in rest}]
        return (*source.parameters[:2], *(by_name.get(p.name, p) for p in rest))

    def _reads(self) -> dict[Node, int]:
        """Return the number of reads of each value; returning a value counts as a read."""
        reads = dict.fromkeys(self.graph.live, 0)
        for planned in self.writer.statements:
            for node in planned.reads:
                reads[node] += 1
        reads[self.graph.update] += 1
        for planned in self.writer.statements:
            if planned.deferred and not planned.copy:
                reads[planned.node] += 1
        for state, node in self.graph.next_values.items():
            if node.op == STATE and node.name == state:
                reads[node] += 1
        return reads

    def _argument(self, node: Node) -> Argument:
        return shortest(node.value) if node.is_constant else self.name_of[node]

    def _operands(self, planned: _PlannedStatement) -> tuple[Node, ...]:
        if not planned.copy and OPS[planned.node.op].commutative:
            return tuple(self.writer._sorted(planned.reads))
        return planned.reads

    def _op_name(self, planned: _PlannedStatement) -> str:
        """Return the op's name; it is `ema` if `interp(x, m, a)` replaces the state m."""
        node = planned.node
        if node.op == "interp" and planned.state:
            old = node.args[1]
            return "ema" if old.op == STATE and old.name == planned.state else "interp"
        return node.op

    def _name(self, planned: _PlannedStatement) -> str:
        is_update = planned.copy or planned.node is self.graph.update
        preferred = self.writer.names.get(planned.node, "update" if is_update else "")
        if preferred and preferred not in self.reserved and self._is_free(preferred):
            return preferred
        while True:
            self.last_number += 1
            name = f"v{self.last_number}"
            if name not in self.taken and name not in OPS and name not in ALIASES:
                return name

    def _is_free(self, name: str) -> bool:
        value = self.value_of.get(name)
        return value is None or not self.reads_left[value]
