"""Simplification, one recorded step at a time.

A step is taken where it leaves fewer statements, or as many that are less nested; every step is
first computed on probe streams, both ways. What is left is then written in one form of many that
are equally long, so that equal rules end at equal programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from primitives.algebra.context import Context
from primitives.algebra.probes import Probe
from primitives.algebra.rewriting import Growth, growth, may_replace, rebuilder, substitute
from primitives.algebra.rule import Domain, Rule
from primitives.algebra.rules import CANONICAL, rules_for
from primitives.algebra.states import STATE_RULES, StateRule
from primitives.algebra.writing import write
from primitives.graph.analysis import live
from primitives.graph.nodes import Graph, Node, Nodes, reachable, read, shortest
from primitives.program import Program


class ProbeError(AssertionError):
    """A rewrite changed what a program computes: a bug of its rule."""


@dataclass(frozen=True)
class Step:
    """One rewrite of a program.

    Attributes:
        rule: the rule's name.
        reason: the equation used, and where it holds.
        before, after: the program.
        domain: where it holds.
    """

    rule: str
    reason: str
    before: Program
    after: Program
    domain: Domain


@dataclass(frozen=True)
class Derivation:
    """How a program was simplified.

    Attributes:
        program: the result.
        steps: what was done, in order.
        refused: names of rules whose rewrite failed its numeric check and was not taken.
    """

    program: Program
    steps: tuple[Step, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def domain(self) -> Domain:
        """Where the result computes what the program did: the narrowest domain of its steps."""
        return max((step.domain for step in self.steps), default=Domain.ALWAYS)


def simplify(program: Program, *, within: Domain = Domain.REAL, strict: bool = False) -> Derivation:
    """`program` without what its update does not need, in its shortest form that rules find.

    The result has no more statements than `program`, and is its own simplification.

    Args:
        program: a valid program.
        within: only rules that hold at least on this domain are used.
        strict: raise where a rewrite fails its numeric check, instead of leaving it out.

    Raises:
        ProgramError: the program is ill-kinded.
        ProbeError: a rewrite failed its check and `strict` is set.
    """
    return _Derivation(program, within, strict).run()


class _Derivation:
    def __init__(self, source: Program, within: Domain, strict: bool):
        self.source = self.program = source
        self.within = within
        self.strict = strict
        self.steps: list[Step] = []
        self.refused: list[str] = []
        self.probe: Probe | None = None
        self._record(live(source), "dead", "statements and states that no update reads")
        self.nodes = Nodes()
        graph, self.named = read(self.program, self.nodes)
        self.context = Context(graph, self.nodes)
        self.untried: set[Node] = set()
        self.unwritten: set[Node] = set()

    def run(self) -> Derivation:
        written = write(self.context, self.program, self.named)
        if len(written.statements) > len(self.program.statements):
            return self._done()
        self._record(written, "written-once", "each value once, copies followed, in one order")
        seen = set()
        while self.graph.roots not in seen:
            seen.add(self.graph.roots)
            self.context = self.context.of(self.graph)
            self.untried, self.unwritten = set(self.graph.live), set(self.graph.live)
            self._settle()
        return self._done()

    @property
    def graph(self) -> Graph:
        """What the program computes, so far."""
        return self.context.graph

    def _done(self) -> Derivation:
        return Derivation(self.program, tuple(self.steps), tuple(dict.fromkeys(self.refused)))

    def _settle(self) -> None:
        """Tries all nodes, then those that rewrites touched, until none of them gives way."""
        seen = set()
        while True:
            self._shorten_values()
            if self.graph.roots not in seen:
                seen.add(self.graph.roots)
                if self._canonical():
                    continue
            if not self._shorten_states():
                return

    def _become(self, graph: Graph) -> Program | None:
        """Goes on with `graph` and gives its text; nothing, and stays, where that is longer."""
        touched = _touched(self.graph, graph)
        context = self.context.after(graph, touched)
        written = write(context, self.program, self.named)
        if len(written.statements) > len(self.program.statements):
            return None
        self.context = context
        self.untried |= touched
        self.unwritten |= touched
        return written

    def _probe(self) -> Probe:
        if self.probe is None:
            self.probe = Probe(self.graph)
        return self.probe

    def _shorten_values(self) -> None:
        """Takes rewrites of values that make the program shorter until none does."""
        while self.untried:
            for node in self.graph.live:
                if node in self.untried and node in self.graph.uses:
                    self.untried.discard(node)
                    if node.is_call:
                        self._shorten_at(node)
            self.untried.intersection_update(self.graph.live)

    def _shorten_at(self, node: Node) -> None:
        for rule in rules_for(node.row):
            if rule.domain <= self.within:
                new = rule.rewrite(self.context, node)
                if new is not None and self._try(rule, node, new, canonical=False):
                    return

    def _shorten_states(self) -> bool:
        for rule in STATE_RULES:
            if rule.domain <= self.within:
                for graph, reason in rule.rewrite(self.context):
                    if self._try_states(rule, graph, reason):
                        return True
        return False

    def _canonical(self) -> bool:
        """Writes arithmetic in its one form, where that is as short; whether anything changed."""
        changed = False
        for old in self.graph.live:
            if old not in self.unwritten or old not in self.graph.uses or not old.is_call:
                continue
            self.unwritten.discard(old)
            for rule in CANONICAL:
                if rule.domain > self.within or not rule.looks_at(old.row):
                    continue
                new = rule.rewrite(self.context, old)
                if new is not None and self._try(rule, old, new, canonical=True):
                    changed = True
                    break
        return changed

    def _try(self, rule: Rule, old: Node, new: Node, *, canonical: bool) -> bool:
        if new is old or not may_replace(self.graph, self.nodes, old, new):
            return False
        grown = growth(self.graph, old, new)
        if grown is not None and not _may_be_better(grown, folds=rule.folds, canonical=canonical):
            return False
        graph = substitute(self.graph, self.nodes, {old: new})
        if not self._is_better(graph, folds=rule.folds, canonical=canonical):
            return False
        if not self._probe().agrees(old, new, rule.domain):
            self._refuse(rule.name, f"{old!r} = {new!r}")
            return False
        self._keep_names(old, new)
        written = self._become(graph)
        if written is None:
            return False
        reason = f"{_equation(old, new, self.named)}, {rule.domain.meaning}"
        self._record(written, rule.name, reason, rule.domain)
        return True

    def _keep_names(self, old: Node, new: Node) -> None:
        """What reads the new node keeps the name of what read the old one."""
        rebuild = rebuilder(self.nodes, {old: new})
        for node in self.graph.live:
            name = self.named.get(node)
            value = rebuild(node)
            if name is not None and value.is_call:
                self.named.setdefault(value, name)

    def _is_better(self, graph: Graph, *, folds: bool, canonical: bool) -> bool:
        if graph.size != self.graph.size:
            return graph.size < self.graph.size
        return canonical or (folds and _nesting(graph) < _nesting(self.graph))

    def _try_states(self, rule: StateRule, graph: Graph, reason: str) -> bool:
        if graph.size >= self.graph.size and len(graph.states) >= len(self.graph.states):
            return False
        if graph.size > self.graph.size:
            return False
        if not self._same_updates(graph, rule.domain):
            self._refuse(rule.name, reason)
            return False
        if graph.update.is_call and self.program.update not in graph.following:
            self.named.setdefault(graph.update, self.program.update)
        written = self._become(graph)
        if written is None:
            return False
        self.probe = None
        self._record(written, rule.name, f"{reason}, {rule.domain.meaning}", rule.domain)
        return True

    def _same_updates(self, graph: Graph, domain: Domain) -> bool:
        """By the probe at hand, or by one of the graph as it is now, where nothing else differs."""
        if self._probe().same_updates(graph, domain):
            return True
        self.probe = None
        return self._probe().same_updates(graph, domain)

    def _refuse(self, name: str, reason: str) -> None:
        if self.strict:
            raise ProbeError(f"{name}: {reason} fails on the probes\n{self.program}")
        self.refused.append(name)

    def _record(
        self, after: Program, rule: str, reason: str, domain: Domain = Domain.ALWAYS
    ) -> None:
        if after != self.program:
            self.steps.append(Step(rule, reason, self.program, after, domain))
            self.program = after


def _may_be_better(grown: Growth, *, folds: bool, canonical: bool) -> bool:
    if grown.size != 0:
        return grown.size < 0
    return canonical or (folds and grown.nesting < 0)


def _touched(before: Graph, after: Graph) -> set[Node]:
    """The nodes of `after` that are new or made of nodes that are, or that are read anew."""
    found: set[Node] = set()
    for node in after.live:
        known = before.uses.get(node)
        changed = known is None or (known > 1) != (after.uses[node] > 1)
        if changed or not found.isdisjoint(node.args):
            found.add(node)
    return found


def _nesting(graph: Graph) -> int:
    return sum(node.depth for node in graph.live)


def _equation(old: Node, new: Node, named: Mapping[Node, str]) -> str:
    """`old = new`, with the names of values that both are made of."""
    common = set(reachable([old])) & set(reachable([new]))
    if new in common:
        common -= {new} if new.is_call else set()
    kept = common - {old}
    return f"{_text(old, kept, named)} = {_text(new, kept, named)}"


def _text(node: Node, kept: Set[Node], named: Mapping[Node, str], *, inside: bool = False) -> str:
    if node.is_constant:
        return repr(shortest(node.value))
    if not node.is_call:
        return node.name
    if node in kept and node in named:
        return named[node]
    infix = node.row.infix
    operands = sorted(node.args, key=_weight) if node.row.commutative else node.args
    args = [_text(arg, kept, named, inside=bool(infix)) for arg in operands]
    if not infix:
        return f"{node.op}({', '.join(args)})"
    text = f" {infix} ".join(args)
    return f"({text})" if inside else text


def _weight(node: Node) -> tuple[int, bool, int]:
    """Large kinds first, constants last, deep before shallow."""
    return -int(node.kind), node.is_constant, -node.depth
