"""Terms back to a program: one statement each, in an order that depends on the terms alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from primitives.algebra.context import Context
from primitives.algebra.order import Rank
from primitives.algebra.terms import LEAF, Graph, Term, schedule_inputs, shortest
from primitives.ops import ALIASES, OPS
from primitives.program import Argument, Parameter, Program, Statement


def write(context: Context, source: Program, named: Mapping[Term, str]) -> Program:
    """A program that computes the graph of `context`.

    Statements follow what they read, states before the update, and each state is replaced once
    nothing reads its old value any more; where that is a circle a copy is kept. Names are those of
    `named` and of `source`'s parameters where they are free, else `v1`, `v2`, ...
    """
    return _Writer(context.graph, context.rank, source, named).program()


@dataclass(frozen=True)
class _Item:
    """One statement to come: it computes `term`, or copies it where that needs no op.

    Attributes:
        state: the state that it replaces; none for an intermediate value.
        late: the value is kept under another name first, since the old state is still read.
    """

    term: Term
    state: str | None = None
    copy: bool = False
    late: bool = False

    @property
    def reads(self) -> tuple[Term, ...]:
        return (self.term,) if self.copy else self.term.args


@dataclass
class _Writer:
    graph: Graph
    rank: Callable[[Term], Rank]
    source: Program
    named: Mapping[Term, str]
    items: list[_Item] = field(default_factory=list)
    placed: set[Term] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)

    def program(self) -> Program:
        self.home: dict[Term, str] = {}  # the state whose next value a term is
        for state, term in self.graph.following.items():
            if term.is_call:
                self.home.setdefault(term, state)
        self.copied_update = self._update_is_copied()
        for state in self.graph.following:
            self._replace(state)
        self._place(self.graph.update)
        if self.copied_update and self.graph.update.is_constant:
            self.items.append(_Item(self.graph.update, copy=True))
        return self._with_names()

    def _update_is_copied(self) -> bool:
        update = self.graph.update
        if update.op == LEAF and update.name in self.graph.following:
            return self.graph.following[update.name] is not update
        return update.is_constant

    def _replace(self, state: str) -> None:
        """Places what `state` turns into, after all that reads its old value."""
        term = self.graph.following[state]
        if state in self.replaced or state in self.waiting:
            return
        if term.op == LEAF and term.name == state:
            return
        if self.home.get(term) == state:
            self._place(term)
            return
        self._place(term)
        self.waiting.add(state)
        late = not self._place_readers(state, but=None)
        self.waiting.discard(state)
        self.items.append(_Item(term, state, copy=True, late=late))
        self.replaced.add(state)

    def _place(self, term: Term) -> None:
        if term in self.placed or not term.is_call:
            return
        state = self.home.get(term)
        for arg in self._ordered(term.args):
            self._place(arg)
        if state is None:
            self.items.append(_Item(term))
            self.placed.add(term)
            return
        self.waiting.add(state)
        late = not self._place_readers(state, but=term)
        self.waiting.discard(state)
        self.items.append(_Item(term, state, late=late))
        self.placed.add(term)
        self.replaced.add(state)

    def _place_readers(self, state: str, but: Term | None) -> bool:
        """Places what reads the old value of `state`; False if some of it cannot come first."""
        leaf = next((t for t in self.graph.live if t.op == LEAF and t.name == state), None)
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
        for other, term in self.graph.following.items():
            if term is leaf and other != state and other not in self.replaced:
                if other in self.waiting:
                    possible = False
                    continue
                self._replace(other)
        if self.graph.update is leaf and self.copied_update and state not in self.replaced:
            self.items.append(_Item(leaf, copy=True))
        return possible

    def _is_made_of_waiting(self, term: Term) -> bool:
        """Whether `term` reads the next value of a state that waits for its own readers."""
        stack = [term]
        while stack:
            one = stack.pop()
            if one in self.placed:
                continue
            if self.home.get(one) in self.waiting:
                return True
            stack += one.args
        return False

    def _ordered(self, args: Iterable[Term]) -> list[Term]:
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
        self.holder: dict[str, Term | None] = {}
        self.where: dict[Term, str] = {}
        for term in self.graph.live:
            if term.op == LEAF:
                self.holder[term.name] = term
                self.where[term] = term.name
        self.reserved = set(self.graph.following)
        self.fresh = 0
        self.taken = {p.name for p in self.parameters} | set(writer.named.values())
        self.statements: list[Statement] = []

    def program(self) -> Program:
        late: list[tuple[str, str]] = []
        update = ""
        for item in self.writer.items:
            args = [self._argument(term) for term in self._printed(item)]
            for term in item.reads:
                self.left[term] -= 1
            op = "identity" if item.copy else self._op_name(item)
            target = item.state if item.state and not item.late else self._name(item)
            if item.state and item.late:
                late.append((item.state, target))
            self.statements.append(Statement(target, op, tuple(args)))
            if item.copy and item.state is None:
                update = target
                self.reserved.add(target)
            self.holder[target] = None if item.copy else item.term
            if not item.copy:
                self.where[item.term] = target
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

    def _reads(self) -> dict[Term, int]:
        """How often each value is still to be read; what is returned is read at the end."""
        left = dict.fromkeys(self.graph.live, 0)
        for item in self.writer.items:
            for term in item.reads:
                left[term] += 1
        left[self.graph.update] += 1
        for item in self.writer.items:
            if item.late and not item.copy:
                left[item.term] += 1
        for state, term in self.graph.following.items():
            if term.op == LEAF and term.name == state:
                left[term] += 1
        return left

    def _argument(self, term: Term) -> Argument:
        return shortest(term.value) if term.is_constant else self.where[term]

    def _printed(self, item: _Item) -> tuple[Term, ...]:
        if not item.copy and OPS[item.term.op].commutative:
            return tuple(self.writer._ordered(item.reads))
        return item.reads

    def _op_name(self, item: _Item) -> str:
        """`ema` where a state averages itself: `ema(x, m, a)` replaces m."""
        term = item.term
        if term.op == "interp" and item.state:
            old = term.args[1]
            return "ema" if old.op == LEAF and old.name == item.state else "interp"
        return term.op

    def _name(self, item: _Item) -> str:
        is_update = item.copy or item.term is self.graph.update
        wanted = self.writer.named.get(item.term, "update" if is_update else "")
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
