"""Simplification of programs by rewrite rules, recorded step by step.

A rewrite is accepted if the program gets shorter, or if the number of statements stays the same and
the statements become less nested. In addition, both sides of the rewrite must agree numerically on
probes, which are sequences of synthetic weights and gradients. Finally, the program is written in a
canonical form, so that equal programs get equal texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from primitives.algebra.context import Context
from primitives.algebra.probes import Probe
from primitives.algebra.rewriting import (
    SizeChange,
    may_replace,
    rebuilder,
    size_change,
    substitute,
)
from primitives.algebra.rule import Domain, Rule
from primitives.algebra.rules import CANONICAL, rules_for
from primitives.algebra.states import STATE_RULES, StateRule
from primitives.algebra.writing import write
from primitives.graph.analysis import live
from primitives.graph.nodes import Graph, Node, Nodes, reachable, read, shortest
from primitives.program import Program


class ProbeError(AssertionError):
    """A rewrite changed what a program computes, which is a bug in its rule."""


@dataclass(frozen=True)
class Step:
    """One rewrite of a program.

    Attributes:
        rule: the rule's name.
        reason: the equation that was used, and where it holds.
        before: the program before the step.
        after: the program after the step.
        domain: where both programs compute the same update.

    Example:
        >>> from primitives import parse
        >>> program = parse("def train(w, g):\\n    a = g - w\\n    u = a + w\\n    return u")
        >>> step = simplify(program).steps[-1]
        >>> print(step.rule, len(step.before.statements), len(step.after.statements))
        linear-form 2 0
    """

    rule: str
    reason: str
    before: Program
    after: Program
    domain: Domain


@dataclass(frozen=True)
class Derivation:
    """The steps from a program to its simplified form.

    Attributes:
        program: the simplified program.
        steps: the steps in order.
        refused: names of the rules whose rewrites failed the numeric check and were not accepted.

    Example:
        >>> from primitives import parse
        >>> program = parse("def train(w, g):\\n    a = g - w\\n    u = a + w\\n    return u")
        >>> derivation = simplify(program)
        >>> [(step.rule, str(step.domain)) for step in derivation.steps]
        [('linear-form', 'real')]
        >>> str(derivation.domain)
        'real'
    """

    program: Program
    steps: tuple[Step, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def domain(self) -> Domain:
        """The narrowest domain of the steps, on which both programs compute the same update."""
        return max((step.domain for step in self.steps), default=Domain.ALWAYS)


def simplify(program: Program, *, within: Domain = Domain.REAL, strict: bool = False) -> Derivation:
    """Simplify `program` and return the steps to the shortest equal program that was found.

    The simplified program has no more statements than `program`, and simplifying it again does
    not change it.

    Args:
        program: a valid program.
        within: the narrowest domain that is accepted; rules that hold only on narrower domains are
            not used. `Domain.ALWAYS` accepts only rules that hold for every float32.
        strict: whether a rewrite that fails its numeric check raises an error. By default the
            rewrite is rejected and its rule is listed in `Derivation.refused`.

    Raises:
        ProgramError: the kinds of the program's values do not fit.
        ProbeError: a rewrite failed its numeric check and `strict` is set.

    Example:
        >>> from primitives import parse
        >>> program = parse("def train(w, g):\\n    a = g - w\\n    u = a + w\\n    return u")
        >>> print(simplify(program).program)
        def train(w, g):
            return g
        <BLANKLINE>
        >>> print(simplify(program, within=Domain.ALWAYS).program)
        def train(w, g):
            a = g - w
            u = a + w
            return u
        <BLANKLINE>
    """
    return _Simplifier(program, within, strict).run()


class _Simplifier:
    """The state of one simplification.

    Attributes:
        program: the current program.
        within: the narrowest domain that is accepted.
        strict: whether a failed numeric check raises an error.
        nodes: the factory of nodes.
        context: the graph of the current program.
        names: preferred names of the values of nodes.
        steps: the steps so far.
        refused: names of the rules whose rewrites failed their check so far.
        probe: the values of a graph on the probes, cached: of the current graph or of an earlier
            graph with the same updates; None until they are needed.
        untried: nodes on which rules on values are still to be tried.
        noncanonical: nodes on which the rules of the canonical form are still to be tried.
    """

    def __init__(self, source: Program, within: Domain, strict: bool):
        self.program = source
        self.within = within
        self.strict = strict
        self.steps: list[Step] = []
        self.refused: list[str] = []
        self.probe: Probe | None = None
        self._record(live(source), "dead", "statements and states that no update reads")
        self.nodes = Nodes()
        graph, self.names = read(self.program, self.nodes)
        self.context = Context(graph, self.nodes)
        self.untried: set[Node] = set()
        self.noncanonical: set[Node] = set()

    def run(self) -> Derivation:
        written = write(self.context, self.program, self.names)
        if len(written.statements) > len(self.program.statements):
            return self._derivation()
        self._record(
            written,
            "written-once",
            "each value once, copies replaced by what they copy, in one order",
        )
        seen = set()
        while self.graph.roots not in seen:
            seen.add(self.graph.roots)
            self.context = self.context.for_graph(self.graph)
            self.untried, self.noncanonical = set(self.graph.live), set(self.graph.live)
            self._rewrite_until_stable()
        return self._derivation()

    @property
    def graph(self) -> Graph:
        """The graph of the current program."""
        return self.context.graph

    def _derivation(self) -> Derivation:
        return Derivation(self.program, tuple(self.steps), tuple(dict.fromkeys(self.refused)))

    def _rewrite_until_stable(self) -> None:
        """Try rules on all nodes, then on nodes that rewrites changed, until none applies."""
        seen = set()
        while True:
            self._shorten_values()
            if self.graph.roots not in seen:
                seen.add(self.graph.roots)
                if self._canonicalize():
                    continue
            if not self._shorten_states():
                return

    def _switch_to(self, graph: Graph) -> Program | None:
        """Make `graph` the current graph, unless its program is longer than the current program.

        Returns:
            The program of `graph`; None if it is longer.
        """
        changed = _changed_nodes(self.graph, graph)
        context = self.context.after_rewrite(graph, changed)
        written = write(context, self.program, self.names)
        if len(written.statements) > len(self.program.statements):
            return None
        self.context = context
        self.untried |= changed
        self.noncanonical |= changed
        return written

    def _cached_probe(self) -> Probe:
        if self.probe is None:
            self.probe = Probe(self.graph)
        return self.probe

    def _shorten_values(self) -> None:
        """Apply rewrites of values that make the program shorter, until no such rewrite is left."""
        while self.untried:
            for node in self.graph.live:
                if node in self.untried and node in self.graph.uses:
                    self.untried.discard(node)
                    if node.is_call:
                        self._shorten_at(node)
            self.untried.intersection_update(self.graph.live)

    def _shorten_at(self, node: Node) -> None:
        """Apply the first rule that makes the program shorter by rewriting `node`."""
        for rule in rules_for(node.op_entry):
            if rule.domain <= self.within:
                new = rule.rewrite(self.context, node)
                if new is not None and self._try(rule, node, new, canonical=False):
                    return

    def _shorten_states(self) -> bool:
        """Apply the first rule on states that makes the program shorter; return whether one did."""
        for rule in STATE_RULES:
            if rule.domain <= self.within:
                for graph, reason in rule.rewrite(self.context):
                    if self._try_states(rule, graph, reason):
                        return True
        return False

    def _canonicalize(self) -> bool:
        """Write arithmetic in canonical form unless longer; return whether the graph changed."""
        changed = False
        for old in self.graph.live:
            if old not in self.noncanonical or old not in self.graph.uses or not old.is_call:
                continue
            self.noncanonical.discard(old)
            for rule in CANONICAL:
                if rule.domain > self.within or not rule.may_apply(old.op_entry):
                    continue
                new = rule.rewrite(self.context, old)
                if new is not None and self._try(rule, old, new, canonical=True):
                    changed = True
                    break
        return changed

    def _try(self, rule: Rule, old: Node, new: Node, *, canonical: bool) -> bool:
        """Replace `old` by `new` if the program improves and the numeric check passes.

        Returns:
            Whether `old` was replaced.
        """
        if new is old or not may_replace(self.graph, self.nodes, old, new):
            return False
        change = size_change(self.graph, old, new)
        if change is not None and not _may_improve(
            change, accepts_less_nested=rule.accepts_less_nested, canonical=canonical
        ):
            return False
        graph = substitute(self.graph, self.nodes, {old: new})
        if not self._improves(
            graph, accepts_less_nested=rule.accepts_less_nested, canonical=canonical
        ):
            return False
        if not self._cached_probe().agrees(old, new, rule.domain):
            self._refuse(rule.name, f"{old!r} = {new!r}")
            return False
        self._transfer_names(old, new)
        written = self._switch_to(graph)
        if written is None:
            return False
        reason = f"{_equation(old, new, self.names)}, {rule.domain.meaning}"
        self._record(written, rule.name, reason, rule.domain)
        return True

    def _transfer_names(self, old: Node, new: Node) -> None:
        """Name each value in which `new` replaces `old` as the value was named before."""
        rebuild = rebuilder(self.nodes, {old: new})
        for node in self.graph.live:
            name = self.names.get(node)
            rebuilt = rebuild(node)
            if name is not None and rebuilt.is_call:
                self.names.setdefault(rebuilt, name)

    def _improves(self, graph: Graph, *, accepts_less_nested: bool, canonical: bool) -> bool:
        """Return whether `graph` is better than the current graph.

        Args:
            graph: the rewritten graph.
            accepts_less_nested: whether a less nested graph of the same size is better.
            canonical: whether any graph of the same size is better.
        """
        if graph.size != self.graph.size:
            return graph.size < self.graph.size
        return canonical or (accepts_less_nested and _nesting(graph) < _nesting(self.graph))

    def _try_states(self, rule: StateRule, graph: Graph, reason: str) -> bool:
        """Switch to `graph` if the program improves and the numeric check passes.

        Returns:
            Whether `graph` is now the current graph.
        """
        if graph.size >= self.graph.size and len(graph.states) >= len(self.graph.states):
            return False
        if graph.size > self.graph.size:
            return False
        if not self._same_updates(graph, rule.domain):
            self._refuse(rule.name, reason)
            return False
        update_name = self.program.update
        if graph.update.is_call and update_name not in graph.next_values:
            self.names.setdefault(graph.update, update_name)
        written = self._switch_to(graph)
        if written is None:
            return False
        self.probe = None
        self._record(written, rule.name, f"{reason}, {rule.domain.meaning}", rule.domain)
        return True

    def _same_updates(self, graph: Graph, domain: Domain) -> bool:
        """Return whether `graph` and the current graph have the same updates on the probes.

        The cached probe may be of an earlier graph. If `graph` disagrees with the cached probe, a
        probe of the current graph decides.
        """
        if self._cached_probe().same_updates(graph, domain):
            return True
        self.probe = None
        return self._cached_probe().same_updates(graph, domain)

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


def _may_improve(change: SizeChange, *, accepts_less_nested: bool, canonical: bool) -> bool:
    """Return False only if a graph with this change in size cannot be better; see `_improves`."""
    if change.statements != 0:
        return change.statements < 0
    return canonical or (accepts_less_nested and change.nesting < 0)


def _changed_nodes(before: Graph, after: Graph) -> set[Node]:
    """Return the nodes of `after` whose rewrites must be tried again.

    They are the nodes that are new, that became shared or that stopped being shared, and all their
    users.
    """
    changed: set[Node] = set()
    for node in after.live:
        uses = before.uses.get(node)
        is_changed = uses is None or (uses > 1) != (after.uses[node] > 1)
        if is_changed or not changed.isdisjoint(node.args):
            changed.add(node)
    return changed


def _nesting(graph: Graph) -> int:
    return sum(node.depth for node in graph.live)


def _equation(old: Node, new: Node, names: Mapping[Node, str]) -> str:
    """Return the text `old = new`, in which operands of both sides are written as their names."""
    shared = set(reachable([old])) & set(reachable([new])) - {old}
    if new.is_call:
        shared.discard(new)
    return f"{_text(old, shared, names)} = {_text(new, shared, names)}"


def _text(node: Node, shared: Set[Node], names: Mapping[Node, str], *, inside: bool = False) -> str:
    """Return an expression as text.

    Args:
        node: the expression.
        shared: nodes that are written as their names.
        names: names of nodes.
        inside: whether the text becomes an operand of `+`, `-`, `*` or `/`.
    """
    if node.is_constant:
        return repr(shortest(node.value))
    if not node.is_call:
        return node.name
    if node in shared and node in names:
        return names[node]
    infix = node.op_entry.infix
    operands = sorted(node.args, key=_operand_order) if node.op_entry.commutative else node.args
    args = [_text(arg, shared, names, inside=bool(infix)) for arg in operands]
    if not infix:
        return f"{node.op}({', '.join(args)})"
    text = f" {infix} ".join(args)
    return f"({text})" if inside else text


def _operand_order(node: Node) -> tuple[int, bool, int]:
    """Return a sort key: tensors before scalars, constants last, then by decreasing depth."""
    return -int(node.kind), node.is_constant, -node.depth
