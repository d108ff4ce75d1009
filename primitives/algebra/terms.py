"""Programs as terms: what each value is, whatever it is called and wherever it is written.

Equal terms are one object, so common subexpressions, copies and dead statements do not exist here,
and a rewrite of a value rewrites it wherever it is read. A graph is what a program computes: the
term of its update and, for each live state, the term that the state turns into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np

from primitives.kinds import Kind, fits, join
from primitives.op import Op
from primitives.ops import OPS
from primitives.program import SCHEDULE_INPUTS, Parameter, Program

CONSTANT = "constant"
LEAF = "leaf"
_NONE: frozenset[str] = frozenset()
_NAMED = {name: OPS[op.same_as or name] for name, op in OPS.items()}


class Term:
    """A constant, a parameter's value at the start of the step, or an op of other terms.

    Terms are made by `Terms` alone and compare by identity.

    Attributes:
        op: an op's name, `CONSTANT` or `LEAF`.
        args: the operands; a commutative op's in the order in which they were made.
        value: a constant's value, a float32.
        name: a leaf's parameter.
        kind: the value's kind.
        depth: ops on the longest way to a leaf.
        leaves: the names of the parameters that it is made of.
        number: counts terms in the order in which they were made.
        is_constant: it is a number of the program's text.
        is_call: it is an op of other terms: what takes a statement.
    """

    __slots__ = (
        "args", "depth", "is_call", "is_constant", "kind", "leaves", "name", "number", "op", "value"
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        op: str,
        args: tuple[Term, ...] = (),
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ):
        self.number = number
        self.op = op
        self.args = args
        self.kind = kind
        self.value = value
        self.name = name
        self.is_constant = op == CONSTANT
        self.is_call = op not in (CONSTANT, LEAF)
        self.leaves: frozenset[str] = (
            frozenset([name]) if op == LEAF else _NONE.union(*(a.leaves for a in args))
        )
        self.depth: int = 1 + max((a.depth for a in args), default=0) if self.is_call else 0

    def __repr__(self) -> str:
        if self.is_constant:
            return repr(shortest(self.value))
        return f"{self.op}({', '.join(map(repr, self.args))})" if self.is_call else self.name


class Terms:
    """Makes terms, each once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Term] = {}

    def constant(self, value: float) -> Term:
        """A number, as the float32 that programs compute with; -0.0 is 0.0."""
        value = float(np.float32(value)) + 0.0
        return self._make((CONSTANT, value), CONSTANT, value=value)

    def leaf(self, name: str, kind: Kind) -> Term:
        """The value of parameter `name` at the start of the step."""
        return self._make((LEAF, name, kind), LEAF, kind=kind, name=name)

    def call(self, op_name: str, *args: Term | float) -> Term:
        """`op_name(*args)`; a copy is what is copied, and an op under another name is one op."""
        terms = tuple([a if isinstance(a, Term) else self.constant(a) for a in args])
        if op_name == "identity":
            return terms[0]
        op = _NAMED[op_name]
        if op.commutative and terms[0].number > terms[1].number:
            terms = terms[::-1]
        key = (op.name, *terms)
        known = self._known.get(key)
        if known is not None:
            return known
        return self._make(key, op.name, terms, op.result_kind(tuple(t.kind for t in terms)))

    def _make(
        self,
        key: tuple[object, ...],
        op: str,
        args: tuple[Term, ...] = (),
        kind: Kind = Kind.SCALAR,
        value: float = 0.0,
        name: str = "",
    ) -> Term:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Term(len(self._known), op, args, kind, value, name)
        return known


@dataclass(frozen=True)
class Graph:
    """What a program computes.

    Attributes:
        update: what is subtracted from the weights.
        following: for each state, in the order returned, what it turns into.
        states: the states' parameters, in the same order.
    """

    update: Term
    following: Mapping[str, Term]
    states: tuple[Parameter, ...]

    @property
    def roots(self) -> tuple[Term, ...]:
        """What the states turn into, and the update."""
        return (*self.following.values(), self.update)

    @cached_property
    def live(self) -> tuple[Term, ...]:
        """Every term that the update or a state's next value is made of, operands first."""
        return tuple(reachable(self.roots))

    @cached_property
    def readers(self) -> Mapping[Term, tuple[Term, ...]]:
        """The live terms that have a term among their operands."""
        found: dict[Term, list[Term]] = {term: [] for term in self.live}
        for term in self.live:
            for arg in dict.fromkeys(term.args):
                found[arg].append(term)
        return {term: tuple(by) for term, by in found.items()}

    @cached_property
    def uses(self) -> Mapping[Term, int]:
        """How often a term is read, by other terms and by what is returned."""
        count = dict.fromkeys(self.live, 0)
        for term in self.live:
            for arg in term.args:
                count[arg] += 1
        for root in self.roots:
            count[root] += 1
        return count

    @cached_property
    def size(self) -> int:
        """Statements that it takes: one for each op, and copies for what is returned as it came."""
        calls = sum(term.is_call for term in self.live)
        changed = [(s, n) for s, n in self.following.items() if not _is_leaf(n, s)]
        copies = len(changed) - len({n for _, n in changed if n.is_call})
        old_state = self.update.op == LEAF and self.update.name in dict(changed)
        return calls + copies + (self.update.is_constant or old_state)

    def initial(self, state: str) -> float:
        """The value that `state` has before the first step."""
        return next(s.initial for s in self.states if s.name == state)


def _is_leaf(term: Term, name: str) -> bool:
    return term.op == LEAF and term.name == name


def reachable(roots: Iterable[Term]) -> Iterator[Term]:
    """Each term that `roots` are made of, once, operands first."""
    seen: set[Term] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        term, ready = stack.pop()
        if ready:
            yield term
        elif term not in seen:
            seen.add(term)
            stack.append((term, True))
            stack += [(arg, False) for arg in reversed(term.args)]


def read(program: Program, terms: Terms) -> tuple[Graph, dict[Term, str]]:
    """The graph of `program`, and the name that each op's value has in it."""
    declared = {state.name: state for state in program.states}
    environment: dict[str, Term] = {}
    for number, parameter in enumerate(program.parameters):
        kind = Kind.TENSOR if number < 2 else Kind.SCALAR
        kind = declared[parameter.name].kind if parameter.name in declared else kind
        environment[parameter.name] = terms.leaf(parameter.name, kind)
    named: dict[Term, str] = {}
    for target, op, args in program.statements:
        value = terms.call(op, *[environment[a] if isinstance(a, str) else a for a in args])
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
        {name: term for name, term in graph.following.items() if name in live},
        tuple(state for state in graph.states if state.name in live),
    )


def substitute(graph: Graph, terms: Terms, replaced: Mapping[Term, Term]) -> Graph:
    """`graph` with each of the terms `replaced` given way to another, wherever it is read."""
    rebuild = rebuilder(terms, replaced)
    return without_dead_states(
        Graph(
            rebuild(graph.update),
            {name: rebuild(term) for name, term in graph.following.items()},
            graph.states,
        )
    )


class Growth(NamedTuple):
    """What a rewrite would do to a graph.

    Attributes:
        size: by how much its size would grow.
        nesting: by how much the sum of its terms' depths would, at least.
    """

    size: int
    nesting: float


def growth(graph: Graph, old: Term, new: Term) -> Growth | None:
    """How `graph` grows with `new` for `old`, without making it; None where that takes making.

    What is made of `old` becomes as many terms that are made of `new`, if `new` is not there yet.
    So it suffices to count what `new` adds and what nothing but `old` reads. (States die only where
    `new` is made of fewer.) Those above become less nested only if `new` is.
    """
    uses = graph.uses
    calls = old.is_call and new.is_call
    if not calls or old not in uses or new in uses or not new.leaves >= old.leaves:
        return None
    added: set[Term] = set()
    kept: set[Term] = set()
    waiting = [new]
    while waiting:
        term = waiting.pop()
        if term in uses:
            kept.add(term)
        elif term not in added:
            added.add(term)
            waiting += term.args
    if any(term.depth >= old.depth for term in kept):
        return None  # it may be made of `old`, which then stays
    lost = read_only_for(graph, old, kept)
    size = sum(t.is_call for t in added) - sum(t.is_call for t in lost)
    if new.depth < old.depth:
        return Growth(size, -math.inf)
    return Growth(size, sum(t.depth for t in added) - sum(t.depth for t in lost))


def read_only_for(graph: Graph, old: Term, kept: Set[Term] = frozenset()) -> list[Term]:
    """What goes if `old` does: itself and what nothing else reads, but for what is `kept`."""
    lost = [old]
    left: dict[Term, int] = {}
    for term in lost:
        for arg in term.args:
            left[arg] = left.get(arg, graph.uses[arg]) - 1
            if not left[arg] and arg not in kept:
                lost.append(arg)
    return lost


def rebuilder(terms: Terms, replaced: Mapping[Term, Term]) -> Callable[[Term], Term]:
    """A function that gives a term with `replaced` carried out inside it."""
    done = dict(replaced)
    least = min((term.depth for term in replaced), default=0)

    def rebuild(term: Term) -> Term:
        known = done.get(term)
        if known is not None:
            return known
        if term.depth <= least:
            return term
        args = tuple([rebuild(arg) for arg in term.args])
        done[term] = new = term if args == term.args else terms.call(term.op, *args)
        return new

    return rebuild


def common_kind(args: Iterable[Term]) -> Kind:
    """The kind that operands are broadcast to before an op reduces them."""
    return reduce(join, (arg.kind for arg in args), Kind.SCALAR)


def minds_kind(op: Op) -> bool:
    """Whether it makes a difference to `op` how often equal numbers occur in an operand."""
    return op.reduction is not None or op.matrixwise


def may_replace(graph: Graph, terms: Terms, old: Term, new: Term) -> bool:
    """Whether the kinds of `old` and `new` let one stand for the other wherever `old` is read.

    A smaller kind holds the same numbers, but a norm of one number is not the norm of as many as
    there are weights, so the operands of whatever reduces must keep their kind.
    """
    if new.kind == old.kind:
        return True
    if not fits(new.kind, old.kind):
        return False
    rebuild = rebuilder(terms, {old: new})
    for term in graph.live:
        if term.is_call and minds_kind(OPS[term.op]):
            kept = common_kind(rebuild(arg) for arg in term.args) == common_kind(term.args)
            if not kept:
                return False
    return True


def schedule_inputs(graph: Graph) -> tuple[str, ...]:
    """The schedule inputs that `graph` reads."""
    read = {term.name for term in graph.live if term.op == LEAF}
    return tuple(name for name in SCHEDULE_INPUTS if name in read and name not in graph.following)


def shortest(value: float) -> float:
    """The number of fewest digits that is the same float32."""
    return float(str(np.float32(value)))
