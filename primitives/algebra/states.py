"""Rules on states: constant, duplicate, proportional and rescaled states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from primitives.algebra.arithmetic import common_factor, product_form, sum_form
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander
from primitives.algebra.numbers import Coefficient, is_normal_float32
from primitives.algebra.products import Expansion
from primitives.algebra.rewriting import may_replace, rebuilder, substitute
from primitives.algebra.rule import Domain
from primitives.graph.nodes import STATE, Graph, Node, shortest, without_dead_states
from primitives.program import Parameter

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class StateRule:
    """One way to rewrite a program's states.

    Attributes:
        name: the rule's name.
        equation: the rule in words.
        domain: where the rule holds.
        rewrite: yields equal graphs, each with the reason why it is equal.
    """

    name: str
    equation: str
    domain: Domain
    rewrite: Callable[[Context], Iterable[tuple[Graph, str]]]


def _leaves(context: Context) -> dict[str, Node]:
    return {s.name: context.nodes.state(s) for s in context.graph.states}


def _constant_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace each state by c that starts at c and whose next value is c if the state is c."""
    graph, nodes = context.graph, context.nodes
    for state, leaf in zip(graph.states, _leaves(context).values(), strict=True):
        value = nodes.constant(state.initial)
        next_value = rebuilder(nodes, {leaf: value})(graph.next_values[state.name])
        interval = context.range(next_value)
        is_constant = next_value is value or (interval.low == interval.high == value.value)
        if is_constant and may_replace(graph, nodes, leaf, value):
            yield substitute(graph, nodes, {leaf: value}), f"{state.name} = {value!r} at every step"


def _duplicate_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace each state that equals an earlier state at every step by the earlier state."""
    graph, nodes = context.graph, context.nodes
    replacements: dict[Node, Node] = {}
    for first, *others in _equal_states(context):
        kept = nodes.state(first)
        replacements.update({nodes.state(s): kept for s in others})
    if replacements:
        pairs = ", ".join(f"{other!r} = {kept!r}" for other, kept in replacements.items())
        yield substitute(graph, nodes, replacements), f"{pairs} at every step"


def _equal_states(context: Context) -> list[list[Parameter]]:
    """Return the coarsest partition into states that start equal and remain equal.

    The partition by kind and initial value is refined by the states' next values, with equal
    states identified, until it is stable.
    """
    graph, nodes = context.graph, context.nodes
    leaves = _leaves(context)
    class_of: dict[str, object] = {s.name: (s.kind, s.initial) for s in graph.states}
    while True:
        first: dict[object, str] = {}
        for name, label in class_of.items():
            first.setdefault(label, name)
        rebuild = rebuilder(nodes, {leaves[n]: leaves[first[c]] for n, c in class_of.items()})
        refined = {n: (first[c], rebuild(graph.next_values[n])) for n, c in class_of.items()}
        if len(set(refined.values())) == len(first):
            break
        class_of = dict(refined)
    classes: dict[object, list[Parameter]] = {}
    for state in graph.states:
        classes.setdefault(class_of[state.name], []).append(state)
    return list(classes.values())


def _multiple_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace a state that is c times another state at every step.

    Candidates for c come from the coefficients of both states' next values. A candidate is proved
    by induction: with c times the first state substituted for the second state, the next value of
    the second state must be c times the next value of the first state.
    """
    graph, nodes = context.graph, context.nodes
    for pair in combinations(graph.states, 2):
        for first, second in (pair, pair[::-1]):
            if first.kind != second.kind:
                continue
            for factor in _candidate_factors(context, first.name, second.name):
                if abs(second.initial - factor * first.initial) > _TOLERANCE * abs(second.initial):
                    continue
                scaled = nodes.call("multiply", nodes.state(first), factor)
                replacements = {nodes.state(second): scaled}
                rebuild = rebuilder(nodes, replacements)
                next_second = rebuild(graph.next_values[second.name])
                scaled_next = nodes.call("multiply", rebuild(graph.next_values[first.name]), factor)
                if _are_same_sum(context, next_second, scaled_next):
                    replacements[graph.next_values[second.name]] = scaled_next
                    yield (
                        substitute(graph, nodes, replacements),
                        f"{second.name} = {first.name} * {factor!r} at every step",
                    )


def _candidate_factors(context: Context, first: str, second: str) -> Iterator[float]:
    """Yield the ratios of the coefficients of equal products in two states' next values."""
    seen = set()
    expander = Expander(context, Expansion.ALL)
    sums = [expander.sum(context.graph.next_values[name]) for name in (first, second)]
    for x in sums[0]:
        for y in sums[1]:
            if x.key == y.key:
                ratio = y.coefficient.value / x.coefficient.value
                factor = Coefficient.computed(ratio).literal()
                if factor and factor not in seen:
                    seen.add(factor)
                    yield factor


def _are_same_sum(context: Context, x: Node, y: Node) -> bool:
    """Whether two nodes are the same sum of products."""
    sums: list[Mapping[object, Coefficient]] = []
    for node in (x, y):
        expander = Expander(context, Expansion.ALL)
        sums.append({form.key: form.coefficient for form in expander.sum(node)})
    a, b = sums
    return a.keys() == b.keys() and all(a[key].is_close(b[key]) for key in a)


def _rescaled_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Store c times a state instead of the state, where this may save a multiplication."""
    graph, nodes = context.graph, context.nodes
    if context.is_large:
        return
    for state, leaf in zip(graph.states, _leaves(context).values(), strict=True):
        for factor in _candidate_scales(context, state.name):
            inverse = Coefficient.computed(1 / factor, recurrent=True).literal()
            if inverse is None or not is_normal_float32(state.initial * factor):
                continue
            old = graph.next_values[state.name]
            replacements = {leaf: nodes.call("multiply", leaf, inverse)}
            scaled = nodes.call("multiply", rebuilder(nodes, replacements)(old), factor)
            forms = (sum_form(context, scaled), common_factor(context, scaled))
            for next_value in dict.fromkeys(form or scaled for form in forms):
                draft = _with_scaled_state(
                    context, state, factor, replacements, next_value, inverse
                )
                reason = f"{state.name} is kept times {shortest(factor)!r}"
                yield _shortened_readers(context, draft, state.name), reason


def _with_scaled_state(
    context: Context,
    state: Parameter,
    factor: float,
    replacements: Mapping[Node, Node],
    next_value: Node,
    inverse: float,
) -> Graph:
    """Return the graph that stores `state` times `factor`.

    Args:
        context: the graph before.
        state: the state.
        factor: what its stored value is multiplied by.
        replacements: the replacement of the state's old value in its readers.
        next_value: the next value to store.
        inverse: 1 / factor.
    """
    graph, nodes = context.graph, context.nodes
    old = graph.next_values[state.name]
    read = {old: nodes.call("multiply", next_value, inverse)} if old.is_call else {}
    rebuild = rebuilder(nodes, {**replacements, **read})
    next_values = {name: rebuild(node) for name, node in graph.next_values.items()}
    next_values[state.name] = next_value
    states = tuple(
        s._replace(initial=s.initial * factor) if s.name == state.name else s for s in graph.states
    )
    return without_dead_states(Graph(rebuild(graph.update), next_values, states))


def _candidate_scales(context: Context, state: str) -> list[float]:
    """Return scales of a state that may make a multiplication by a constant unnecessary.

    These are the factors that multiply the state's old or new value, and the inverse coefficients
    of the products that are added to it.
    """
    graph = context.graph
    values = {graph.next_values[state]}
    values |= {node for node in graph.live if node.op == STATE and node.name == state}
    scales: dict[float, None] = {}
    for node in graph.live:
        if node.op not in ("multiply", "divide"):
            continue
        for x, c in (node.args, node.args[::-1]):
            if x in values and c.is_constant and c.value:
                scales[c.value if node.op == "multiply" else 1 / c.value] = None
    for form in Expander(context, Expansion.ALL).sum(graph.next_values[state]):
        coefficient = form.coefficient.value
        if abs(coefficient) != 1 and not values & form.powers.keys():
            scales[1 / coefficient] = None
    return list(scales)


def _shortened_readers(context: Context, graph: Graph, state: str) -> Graph:
    """Return `graph` with all values that depend on `state` in normal form, where shorter."""
    draft = context.for_graph(graph, is_draft=True)
    for node in graph.live:
        if not node.is_call or node not in graph.uses or state not in node.leaves:
            continue
        for form in (sum_form, product_form):
            new = form(draft, node)
            if new is None or new is node or not may_replace(graph, context.nodes, node, new):
                continue
            shorter = substitute(graph, context.nodes, {node: new})
            if shorter.size < graph.size:
                graph = shorter
                draft = context.for_graph(graph, is_draft=True)
                break
    return graph


STATE_RULES: tuple[StateRule, ...] = (
    StateRule(
        "constant-state",
        "m = c at every step, if m starts at c and its next value is c where m is c",
        Domain.FINITE,
        _constant_states,
    ),
    StateRule(
        "duplicate-states",
        "m = v at every step, if m and v start equal and have equal next values where m = v",
        Domain.ALWAYS,
        _duplicate_states,
    ),
    StateRule(
        "multiple-states",
        "v = c * m at every step, if it holds at the start and, where it holds, at the next step",
        Domain.REAL,
        _multiple_states,
    ),
    StateRule(
        "rescaled-state",
        "a state m may be stored as c * m: its next value is multiplied by c, and its readers "
        "divide by c",
        Domain.REAL,
        _rescaled_states,
    ),
)
"""The rules on states, in the order in which they are tried."""
