"""Writes graphs as programs: one statement per node, in an order that does not depend on names."""

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

    Each statement follows the statements whose values it reads; states come before the update. A
    state is assigned after all statements that read its old value. If states read each other in a
    cycle, the new value of one state first gets another name, and is copied to the state at the end
    of the program.

    Args:
        context: the graph.
        source: the program from which the parameters are taken.
        names: preferred names of the values of nodes. Where a name is in use, `v1`, `v2`, ... are
            used instead.
    """
    return _Writer(context.graph, context.rank, source, names).program()


@dataclass(frozen=True)
class _PlannedStatement:
    """A statement of the program to write, before variables have names.

    Attributes:
        node: the value that the statement computes.
        state: the state that the statement assigns; None for an intermediate value.
        is_copy: whether the statement is a copy of `node`.
        is_deferred: whether the value first gets another name, because later statements read the
            state's old value. A copy at the end of the program then assigns the state.
    """

    node: Node
    state: str | None = None
    is_copy: bool = False
    is_deferred: bool = False

    @property
    def operands(self) -> tuple[Node, ...]:
        """The values that the statement reads."""
        return (self.node,) if self.is_copy else self.node.args


@dataclass
class _Writer:
    """Plans the statements of a program, in order.

    Attributes:
        graph: the graph to write.
        rank: sort key of nodes.
        source: the program from which the parameters are taken.
        names: preferred names of the values of nodes.
        statements: the statements planned so far.
        planned: the nodes whose statement has been planned.
        assigned: the states whose assignment has been planned.
        waiting: the states whose assignment waits until all readers of the old value are planned.
        next_value_of: for each node that is the next value of states, the first of these states.
        copies_update: whether the program needs a statement that copies the update.
    """

    graph: Graph
    rank: Callable[[Node], Rank]
    source: Program
    names: Mapping[Node, str]
    statements: list[_PlannedStatement] = field(default_factory=list)
    planned: set[Node] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
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
            self.statements.append(_PlannedStatement(self.graph.update, is_copy=True))
        return self._named_program()

    def _must_copy_update(self) -> bool:
        update = self.graph.update
        if update.op == STATE:
            return self.graph.next_values[update.name] is not update
        return update.is_constant

    def _plan_state(self, state: str) -> None:
        """Plan the statements for the next value of `state`, after all readers of the old value."""
        node = self.graph.next_values[state]
        if state in self.assigned or state in self.waiting:
            return
        if node.op == STATE and node.name == state:
            return
        if self.next_value_of.get(node) == state:
            self._plan(node)
            return
        self._plan(node)
        self.waiting.add(state)
        is_deferred = not self._plan_readers(state, excluding=None)
        self.waiting.discard(state)
        self.statements.append(
            _PlannedStatement(node, state, is_copy=True, is_deferred=is_deferred)
        )
        self.assigned.add(state)

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
        is_deferred = not self._plan_readers(state, excluding=node)
        self.waiting.discard(state)
        self.statements.append(_PlannedStatement(node, state, is_deferred=is_deferred))
        self.planned.add(node)
        self.assigned.add(state)

    def _plan_readers(self, state: str, excluding: Node | None) -> bool:
        """Plan the readers of the old value of `state`, except for the node `excluding`.

        Returns:
            Whether all readers could be planned.
        """
        leaf = next(
            (node for node in self.graph.live if node.op == STATE and node.name == state), None
        )
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
            if node is leaf and other != state and other not in self.assigned:
                if other in self.waiting:
                    all_planned = False
                    continue
                self._plan_state(other)
        if self.graph.update is leaf and self.copies_update and state not in self.assigned:
            self.statements.append(_PlannedStatement(leaf, is_copy=True))
        return all_planned

    def _reads_waiting_state(self, node: Node) -> bool:
        """Return whether `node` depends on the next value of a state in `waiting`."""
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

    A value gets its preferred name unless a later statement reads the current value of this name.

    Attributes:
        remaining_reads: for each value, the number of reads by statements not yet written.
        value_with_name: the current value of each name; None for a copy.
        name_of_value: the current name of each value.
        reserved: names that no other value may get.
        last_number: the number n of the last generated name `vn`.
        used_names: names that generated names must differ from.
        statements: the statements written so far.
    """

    def __init__(self, writer: _Writer):
        self.writer = writer
        self.graph = writer.graph
        self.parameters = self._parameters()
        self.remaining_reads = self._count_reads()
        self.value_with_name: dict[str, Node | None] = {}
        self.name_of_value: dict[Node, str] = {}
        for node in self.graph.live:
            if node.is_leaf:
                self.value_with_name[node.name] = node
                self.name_of_value[node] = node.name
        self.reserved = set(self.graph.next_values)
        self.last_number = 0
        self.used_names = {parameter.name for parameter in self.parameters} | set(
            writer.names.values()
        )
        self.statements: list[Statement] = []

    def program(self) -> Program:
        deferred: list[tuple[str, str]] = []
        update = ""
        for planned in self.writer.statements:
            args = [self._argument(node) for node in self._ordered_operands(planned)]
            for node in planned.operands:
                self.remaining_reads[node] -= 1
            op = "identity" if planned.is_copy else self._op_name(planned)
            state, is_deferred = planned.state, planned.is_deferred
            target = state if state and not is_deferred else self._name(planned)
            if state and is_deferred:
                deferred.append((state, target))
            self.statements.append(Statement(target, op, tuple(args)))
            if planned.is_copy and state is None:
                update = target
                self.reserved.add(target)
            self.value_with_name[target] = None if planned.is_copy else planned.node
            if not planned.is_copy:
                self.name_of_value[planned.node] = target
            elif is_deferred:
                self.reserved.add(target)
        update = update or self.name_of_value[self.graph.update]
        self.statements += [Statement(name, "identity", (copy,)) for name, copy in deferred]
        returns = (update, *self.graph.next_values)
        return Program(self.parameters, tuple(self.statements), returns)

    def _parameters(self) -> tuple[Parameter, ...]:
        source = self.writer.source
        needed = {*self.graph.next_values, *schedule_inputs(self.graph)}
        states_by_name = {state.name: state for state in self.graph.states}
        others = [parameter for parameter in source.parameters[2:] if parameter.name in needed]
        other_names = {p.name for p in others}
        others += [state for state in self.graph.states if state.name not in other_names]
        return (
            *source.parameters[:2],
            *(states_by_name.get(parameter.name, parameter) for parameter in others),
        )

    def _count_reads(self) -> dict[Node, int]:
        """Return the number of reads of each value; returning a value counts as a read."""
        reads = dict.fromkeys(self.graph.live, 0)
        for planned in self.writer.statements:
            for node in planned.operands:
                reads[node] += 1
        reads[self.graph.update] += 1
        for planned in self.writer.statements:
            if planned.is_deferred and not planned.is_copy:
                reads[planned.node] += 1
        for state, node in self.graph.next_values.items():
            if node.op == STATE and node.name == state:
                reads[node] += 1
        return reads

    def _argument(self, node: Node) -> Argument:
        return shortest(node.value) if node.is_constant else self.name_of_value[node]

    def _ordered_operands(self, planned: _PlannedStatement) -> tuple[Node, ...]:
        if not planned.is_copy and OPS[planned.node.op].commutative:
            return tuple(self.writer._sorted(planned.operands))
        return planned.operands

    def _op_name(self, planned: _PlannedStatement) -> str:
        """Return the op's name, which is `ema` if `interp(x, m, a)` is assigned to the state m."""
        node = planned.node
        if node.op == "interp" and planned.state:
            second = node.args[1]
            return "ema" if second.op == STATE and second.name == planned.state else "interp"
        return node.op

    def _name(self, planned: _PlannedStatement) -> str:
        is_update = planned.is_copy or planned.node is self.graph.update
        preferred = self.writer.names.get(planned.node, "update" if is_update else "")
        if preferred and preferred not in self.reserved and self._may_be_reassigned(preferred):
            return preferred
        while True:
            self.last_number += 1
            name = f"v{self.last_number}"
            if name not in self.used_names and name not in OPS and name not in ALIASES:
                return name

    def _may_be_reassigned(self, name: str) -> bool:
        value = self.value_with_name.get(name)
        return value is None or not self.remaining_reads[value]
