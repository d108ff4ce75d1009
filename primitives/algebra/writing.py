"""Nodes back to a program: one statement each, in an order that depends on the nodes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from primitives.algebra.context import Context
from primitives.algebra.order import Rank
from primitives.graph.nodes import STATE, Graph, Node, schedule_inputs, shortest
from primitives.ops import ALIASES, OPS
from primitives.program import Argument, Parameter, Program, Statement


def write(context: Context, source: Program, named: Mapping[Node, str]) -> Program:
    """A program that computes the graph of `context`.

    Statements follow what they read, states before the update, and each state is replaced once
    nothing reads its old value any more; where that is a circle a copy is kept. Names are those of
    `named` and of `source`'s parameters where they are free, else `v1`, `v2`, ...
    """
    return _Writer(context.graph, context.rank, source, named).program()


@dataclass(frozen=True)
class _Item:
    """One statement to come: it computes `node`, or copies it where that needs no op.

    Attributes:
        state: the state that it replaces; none for an intermediate value.
        late: the value is kept under another name first, since the old state is still read.
    """

    node: Node
    state: str | None = None
    copy: bool = False
    late: bool = False

    @property
    def reads(self) -> tuple[Node, ...]:
        return (self.node,) if self.copy else self.node.args


@dataclass
class _Writer:
    graph: Graph
    rank: Callable[[Node], Rank]
    source: Program
    named: Mapping[Node, str]
    items: list[_Item] = field(default_factory=list)
    placed: set[Node] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    home: dict[Node, str] = field(default_factory=dict)
    """The state whose next value a node is."""
    copied_update: bool = field(init=False)

    def __post_init__(self) -> None:
        for state, node in self.graph.following.items():
            if node.is_call:
                self.home.setdefault(node, state)
        self.copied_update = self._update_is_copied()

    def program(self) -> Program:
        for state in self.graph.following:
            self._replace(state)
        self._place(self.graph.update)
        if self.copied_update and self.graph.update.is_constant:
            self.items.append(_Item(self.graph.update, copy=True))
        return self._with_names()

    def _update_is_copied(self) -> bool:
        update = self.graph.update
        if update.op == STATE:
            return self.graph.following[update.name] is not update
        return update.is_constant

    def _replace(self, state: str) -> None:
        """Places what `state` turns into, after all that reads its old value."""
        node = self.graph.following[state]
        if state in self.replaced or state in self.waiting:
            return
        if node.op == STATE and node.name == state:
            return
        if self.home.get(node) == state:
            self._place(node)
            return
        self._place(node)
        self.waiting.add(state)
        late = not self._place_readers(state, but=None)
        self.waiting.discard(state)
        self.items.append(_Item(node, state, copy=True, late=late))
        self.replaced.add(state)

    def _place(self, node: Node) -> None:
        if node in self.placed or not node.is_call:
            return
        state = self.home.get(node)
        for arg in self._ordered(node.args):
            self._place(arg)
        if state is None:
            self.items.append(_Item(node))
            self.placed.add(node)
            return
        self.waiting.add(state)
        late = not self._place_readers(state, but=node)
        self.waiting.discard(state)
        self.items.append(_Item(node, state, late=late))
        self.placed.add(node)
        self.replaced.add(state)

    def _place_readers(self, state: str, but: Node | None) -> bool:
        """Places what reads the old value of `state`; False if some of it cannot come first."""
        leaf = next((t for t in self.graph.live if t.op == STATE and t.name == state), None)
        if leaf is None:
            return True
        possible = True
        for reader in sorted(self.graph.readers[leaf], key=self.rank):
            if reader is but or reader in self.placed:
                continue
            if self._is_made_of_waiting(reader):
                possible = False
                continue
            self._place(reader)
        for other, node in self.graph.following.items():
            if node is leaf and other != state and other not in self.replaced:
                if other in self.waiting:
                    possible = False
                    continue
                self._replace(other)
        if self.graph.update is leaf and self.copied_update and state not in self.replaced:
            self.items.append(_Item(leaf, copy=True))
        return possible

    def _is_made_of_waiting(self, node: Node) -> bool:
        """Whether `node` reads the next value of a state that waits for its own readers."""
        stack = [node]
        while stack:
            one = stack.pop()
            if one in self.placed:
                continue
            if self.home.get(one) in self.waiting:
                return True
            stack += one.args
        return False

    def _ordered(self, args: Iterable[Node]) -> list[Node]:
        return sorted(args, key=self.rank)

    def _with_names(self) -> Program:
        return _Naming(self).program()


class _Naming:
    """Gives each value a name, its own of old where no one still needs what that name holds."""

    def __init__(self, writer: _Writer):
        self.writer = writer
        self.graph = writer.graph
        self.parameters = self._parameters()
        self.left = self._reads()
        self.holder: dict[str, Node | None] = {}
        self.where: dict[Node, str] = {}
        for node in self.graph.live:
            if node.is_leaf:
                self.holder[node.name] = node
                self.where[node] = node.name
        self.reserved = set(self.graph.following)
        self.fresh = 0
        self.taken = {p.name for p in self.parameters} | set(writer.named.values())
        self.statements: list[Statement] = []

    def program(self) -> Program:
        late: list[tuple[str, str]] = []
        update = ""
        for item in self.writer.items:
            args = [self._argument(node) for node in self._printed(item)]
            for node in item.reads:
                self.left[node] -= 1
            op = "identity" if item.copy else self._op_name(item)
            target = item.state if item.state and not item.late else self._name(item)
            if item.state and item.late:
                late.append((item.state, target))
            self.statements.append(Statement(target, op, tuple(args)))
            if item.copy and item.state is None:
                update = target
                self.reserved.add(target)
            self.holder[target] = None if item.copy else item.node
            if not item.copy:
                self.where[item.node] = target
            elif item.late:
                self.reserved.add(target)
        update = update or self.where[self.graph.update]
        self.statements += [Statement(state, "identity", (kept,)) for state, kept in late]
        returns = (update, *self.graph.following)
        return Program(self.parameters, tuple(self.statements), returns)

    def _parameters(self) -> tuple[Parameter, ...]:
        source = self.writer.source
        kept = {*self.graph.following, *schedule_inputs(self.graph)}
        by_name = {state.name: state for state in self.graph.states}
        rest = [p for p in source.parameters[2:] if p.name in kept]
        rest += [s for s in self.graph.states if s.name not in {p.name for p in rest}]
        return (*source.parameters[:2], *(by_name.get(p.name, p) for p in rest))

    def _reads(self) -> dict[Node, int]:
        """How often each value is still to be read; what is returned is read at the end."""
        left = dict.fromkeys(self.graph.live, 0)
        for item in self.writer.items:
            for node in item.reads:
                left[node] += 1
        left[self.graph.update] += 1
        for item in self.writer.items:
            if item.late and not item.copy:
                left[item.node] += 1
        for state, node in self.graph.following.items():
            if node.op == STATE and node.name == state:
                left[node] += 1
        return left

    def _argument(self, node: Node) -> Argument:
        return shortest(node.value) if node.is_constant else self.where[node]

    def _printed(self, item: _Item) -> tuple[Node, ...]:
        if not item.copy and OPS[item.node.op].commutative:
            return tuple(self.writer._ordered(item.reads))
        return item.reads

    def _op_name(self, item: _Item) -> str:
        """`ema` where a state averages itself: `ema(x, m, a)` replaces m."""
        node = item.node
        if node.op == "interp" and item.state:
            old = node.args[1]
            return "ema" if old.op == STATE and old.name == item.state else "interp"
        return node.op

    def _name(self, item: _Item) -> str:
        is_update = item.copy or item.node is self.graph.update
        wanted = self.writer.named.get(item.node, "update" if is_update else "")
        if wanted and wanted not in self.reserved and self._is_free(wanted):
            return wanted
        while True:
            self.fresh += 1
            name = f"v{self.fresh}"
            if name not in self.taken and name not in OPS and name not in ALIASES:
                return name

    def _is_free(self, name: str) -> bool:
        holder = self.holder.get(name)
        return holder is None or not self.left[holder]
