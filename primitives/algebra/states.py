"""Rewrite rules on states: constant, duplicate, proportional and rescaled states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

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
    """A rewrite rule on the states of a program.

    Attributes:
        name: the rule's name.
        equation: the rule in words.
        domain: where the rule holds.
        rewrite: yields graphs with the same updates, each with the reason in words.
    """

    name: str
    equation: str
    domain: Domain
    rewrite: Callable[[Context], Iterable[tuple[Graph, str]]]


def _leaves(context: Context) -> dict[str, Node]:
    """Return the node of each state's old value, by name."""
    return {state.name: context.nodes.state(state) for state in context.graph.states}


def _constant_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace a state by its initial value c if its next value is c whenever the state is c."""
    graph, nodes = context.graph, context.nodes
    for state, leaf in zip(graph.states, _leaves(context).values(), strict=True):
        value = nodes.constant(state.initial)
        next_value = rebuilder(nodes, {leaf: value})(graph.next_values[state.name])
        interval = context.range(next_value)
        is_constant = next_value is value or (interval.low == interval.high == value.value)
        if is_constant and may_replace(graph, nodes, leaf, value):
            yield substitute(graph, nodes, {leaf: value}), f"{state.name} = {value!r} at every step"


def _duplicate_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace each state that equals an earlier state at every step by this earlier state."""
    graph, nodes = context.graph, context.nodes
    replacements: dict[Node, Node] = {}
    for first, *others in _equal_states(context):
        kept = nodes.state(first)
        replacements.update({nodes.state(other): kept for other in others})
    if replacements:
        pairs = ", ".join(f"{other!r} = {kept!r}" for other, kept in replacements.items())
        yield substitute(graph, nodes, replacements), f"{pairs} at every step"


def _equal_states(context: Context) -> list[list[Parameter]]:
    """Return groups of states that are equal at every step.

    At first, states of equal kind and initial value are in one group. A group is split if its
    states have different next values when all states of a group are replaced by the group's first
    state. This is repeated until no group is split.
    """
    graph, nodes = context.graph, context.nodes
    leaves = _leaves(context)
    group_of: dict[str, object] = {
        state.name: (state.kind, state.initial) for state in graph.states
    }
    while True:
        first_in: dict[object, str] = {}
        for name, group in group_of.items():
            first_in.setdefault(group, name)
        rebuild = rebuilder(
            nodes, {leaves[name]: leaves[first_in[group]] for name, group in group_of.items()}
        )
        split = {
            name: (first_in[group], rebuild(graph.next_values[name]))
            for name, group in group_of.items()
        }
        if len(set(split.values())) == len(first_in):
            break
        group_of = dict(split)
    groups: dict[object, list[Parameter]] = {}
    for state in graph.states:
        groups.setdefault(group_of[state.name], []).append(state)
    return list(groups.values())


def _multiple_states(context: Context) -> Iterator[tuple[Graph, str]]:
    """Replace a state by a constant c times another state, if this holds at every step.

    Candidates for c are ratios of coefficients in the next values of both states. A candidate is
    proved by induction over steps: if c times the first state is substituted for the second state,
    the next value of the second state must be c times the next value of the first state.
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
    """Yield ratios of coefficients of equal products in the next values of two states."""
    yielded = set()
    expander = Expander(context, Expansion.ALL)
    first_terms, second_terms = (
        expander.sum(context.graph.next_values[name]) for name in (first, second)
    )
    for first_term, second_term in product(first_terms, second_terms):
        if first_term.key == second_term.key:
            ratio = second_term.coefficient.value / first_term.coefficient.value
            factor = Coefficient.computed(ratio).literal()
            if factor and factor not in yielded:
                yielded.add(factor)
                yield factor


def _are_same_sum(context: Context, first: Node, second: Node) -> bool:
    """Return whether two nodes are the same sum of products, up to rounding."""
    first_terms, second_terms = (
        {term.key: term.coefficient for term in Expander(context, Expansion.ALL).sum(node)}
        for node in (first, second)
    )
    return first_terms.keys() == second_terms.keys() and all(
        coefficient.is_close(second_terms[key]) for key, coefficient in first_terms.items()
    )


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
    """Return the graph that stores `factor` times a state.

    Args:
        context: the original graph.
        state: the state.
        factor: the factor.
        replacements: maps the state's old value to the value that its readers use instead.
        next_value: the next value to store.
        inverse: 1 / factor.
    """
    graph, nodes = context.graph, context.nodes
    old_next_value = graph.next_values[state.name]
    if old_next_value.is_call:
        unscaled = nodes.call("multiply", next_value, inverse)
        replacements = {**replacements, old_next_value: unscaled}
    rebuild = rebuilder(nodes, replacements)
    next_values = {name: rebuild(node) for name, node in graph.next_values.items()}
    next_values[state.name] = next_value
    states = tuple(
        each._replace(initial=each.initial * factor) if each.name == state.name else each
        for each in graph.states
    )
    return without_dead_states(Graph(rebuild(graph.update), next_values, states))


def _candidate_scales(context: Context, state: str) -> list[float]:
    """Return the factors with which a state may be stored to save a multiplication by a constant.

    They are the constants that multiply the state's old or next value, and the inverse coefficients
    of the products that are added to the state.
    """
    graph = context.graph
    values = {graph.next_values[state]}
    values |= {node for node in graph.live if node.op == STATE and node.name == state}
    scales: dict[float, None] = {}
    for node in graph.live:
        if node.op not in ("multiply", "divide"):
            continue
        for value, constant in (node.args, node.args[::-1]):
            if value in values and constant.is_constant and constant.value:
                is_product = node.op == "multiply"
                scales[constant.value if is_product else 1 / constant.value] = None
    for term in Expander(context, Expansion.ALL).sum(graph.next_values[state]):
        coefficient = term.coefficient.value
        if abs(coefficient) != 1 and not values & term.powers.keys():
            scales[1 / coefficient] = None
    return list(scales)


def _shortened_readers(context: Context, graph: Graph, state: str) -> Graph:
    """Write values that depend on `state` in normal form where this shortens the graph."""
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
