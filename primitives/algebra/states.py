"""Rules on states: constants, duplicates, multiples, and states kept at another scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from primitives.algebra.arithmetic import common_factor, product_form, sum_form
from primitives.algebra.context import Context
from primitives.algebra.forms import Expander
from primitives.algebra.numbers import Coefficient, fits_float32
from primitives.algebra.products import Reach
from primitives.algebra.rewriting import may_replace, rebuilder, substitute
from primitives.algebra.rule import Domain
from primitives.graph.nodes import STATE, Graph, Node, shortest, without_dead_states
from primitives.program import Parameter

_ROUNDING = 1e-6


@dataclass(frozen=True)
class StateRule:
    """One way to rewrite a program's states.

    Attributes:
        name: the rule's name.
        equation: what it says.
        domain: where it holds.
        rewrite: gives equal graphs, each with its reason.
    """

    name: str
    equation: str
    domain: Domain
    rewrite: Callable[[Context], Iterable[tuple[Graph, str]]]


def _leaves(context: Context) -> dict[str, Node]:
    return {s.name: context.nodes.state(s) for s in context.graph.states}


def _constant(context: Context) -> Iterator[tuple[Graph, str]]:
    """A state that starts at c and, being c, stays c."""
    graph, nodes = context.graph, context.nodes
    for state, leaf in zip(graph.states, _leaves(context).values(), strict=True):
        value = nodes.constant(state.initial)
        following = rebuilder(nodes, {leaf: value})(graph.following[state.name])
        held = context.range(following)
        stays = following is value or (held.low == held.high == value.value)
        if stays and may_replace(graph, nodes, leaf, value):
            yield substitute(graph, nodes, {leaf: value}), f"{state.name} = {value!r} at every step"


def _duplicates(context: Context) -> Iterator[tuple[Graph, str]]:
    """States that start alike and, being alike, turn into the same."""
    graph, nodes = context.graph, context.nodes
    classes = _classes(context)
    replaced: dict[Node, Node] = {}
    for members in classes:
        first, *others = members
        kept = nodes.state(first)
        replaced.update({nodes.state(s): kept for s in others})
    if replaced:
        pairs = ", ".join(f"{other!r} = {kept!r}" for other, kept in replaced.items())
        yield substitute(graph, nodes, replaced), f"{pairs} at every step"


def _classes(context: Context) -> list[list[Parameter]]:
    """The coarsest partition of the states that the next step does not tear apart."""
    graph, nodes = context.graph, context.nodes
    leaves = _leaves(context)
    group: dict[str, object] = {s.name: (s.kind, s.initial) for s in graph.states}
    while True:
        first: dict[object, str] = {}
        for name, mark in group.items():
            first.setdefault(mark, name)
        rebuild = rebuilder(nodes, {leaves[n]: leaves[first[m]] for n, m in group.items()})
        refined = {n: (first[m], rebuild(graph.following[n])) for n, m in group.items()}
        if len(set(refined.values())) == len(first):
            break
        group = dict(refined)
    found: dict[object, list[Parameter]] = {}
    for state in graph.states:
        found.setdefault(group[state.name], []).append(state)
    return list(found.values())


def _multiples(context: Context) -> Iterator[tuple[Graph, str]]:
    """Two states of which one is c times the other at every step.

    The factor is guessed from what the states turn into, and holds if the second, written with c
    times the first in its own place, turns into c times what the first turns into.
    """
    graph, nodes = context.graph, context.nodes
    for one, other in combinations(graph.states, 2):
        for first, second in ((one, other), (other, one)):
            if first.kind != second.kind:
                continue
            for factor in _factors(context, first.name, second.name):
                if abs(second.initial - factor * first.initial) > _ROUNDING * abs(second.initial):
                    continue
                scaled = nodes.call("multiply", nodes.state(first), factor)
                replaced = {nodes.state(second): scaled}
                rebuild = rebuilder(nodes, replaced)
                mine = rebuild(graph.following[second.name])
                theirs = nodes.call("multiply", rebuild(graph.following[first.name]), factor)
                if _same_sum(context, mine, theirs):
                    replaced[graph.following[second.name]] = theirs
                    yield (
                        substitute(graph, nodes, replaced),
                        f"{second.name} = {first.name} * {factor!r} at every step",
                    )


def _factors(context: Context, first: str, second: str) -> Iterator[float]:
    """Ratios of the coefficients with which both states take in the same thing."""
    seen = set()
    expander = Expander(context, Reach.ALL)
    sums = [expander.sum(context.graph.following[name]) for name in (first, second)]
    for x in sums[0]:
        for y in sums[1]:
            if x.key == y.key:
                ratio = y.coefficient.value / x.coefficient.value
                found = Coefficient.computed(ratio).written()
                if found and found not in seen:
                    seen.add(found)
                    yield found


def _same_sum(context: Context, x: Node, y: Node) -> bool:
    """Whether two nodes are one sum of products."""
    sums: list[Mapping[object, Coefficient]] = []
    for node in (x, y):
        expander = Expander(context, Reach.ALL)
        sums.append({form.key: form.coefficient for form in expander.sum(node)})
    one, other = sums
    return one.keys() == other.keys() and all(one[key].agrees(other[key]) for key in one)


def _rescaled(context: Context) -> Iterator[tuple[Graph, str]]:
    """A state kept as c times itself, where that saves a multiplication."""
    graph, nodes = context.graph, context.nodes
    if context.is_long:
        return
    for state, leaf in zip(graph.states, _leaves(context).values(), strict=True):
        for factor in _scales(context, state.name):
            inverse = Coefficient.computed(1 / factor, carried=True).written()
            if inverse is None or not fits_float32(state.initial * factor):
                continue
            old = graph.following[state.name]
            replaced = {leaf: nodes.call("multiply", leaf, inverse)}
            scaled = nodes.call("multiply", rebuilder(nodes, replaced)(old), factor)
            forms = (sum_form(context, scaled), common_factor(context, scaled))
            for kept in dict.fromkeys(form or scaled for form in forms):
                draft = _kept_as(context, state, factor, replaced, kept, inverse)
                reason = f"{state.name} is kept times {shortest(factor)!r}"
                yield _tidied(context, draft, state.name), reason


def _kept_as(
    context: Context,
    state: Parameter,
    factor: float,
    replaced: Mapping[Node, Node],
    kept: Node,
    inverse: float,
) -> Graph:
    """The graph in which `state` is kept times `factor` and turns into `kept`."""
    graph, nodes = context.graph, context.nodes
    old = graph.following[state.name]
    read = {old: nodes.call("multiply", kept, inverse)} if old.is_call else {}
    rebuild = rebuilder(nodes, {**replaced, **read})
    following = {name: rebuild(node) for name, node in graph.following.items()}
    following[state.name] = kept
    states = tuple(
        s._replace(initial=s.initial * factor) if s.name == state.name else s for s in graph.states
    )
    return without_dead_states(Graph(rebuild(graph.update), following, states))


def _scales(context: Context, state: str) -> list[float]:
    """What the state's value, old or new, is multiplied by, and what goes into it is divided by."""
    graph = context.graph
    values = {graph.following[state]}
    values |= {t for t in graph.live if t.op == STATE and t.name == state}
    found: dict[float, None] = {}
    for node in graph.live:
        if node.op not in ("multiply", "divide"):
            continue
        for x, c in (node.args, node.args[::-1]):
            if x in values and c.is_constant and c.value:
                found[c.value if node.op == "multiply" else 1 / c.value] = None
    for form in Expander(context, Reach.ALL).sum(graph.following[state]):
        size = form.coefficient.value
        if abs(size) != 1 and not values & form.powers.keys():
            found[1 / size] = None
    return list(found)


def _tidied(context: Context, graph: Graph, state: str) -> Graph:
    """`graph` with what reads `state` written anew, wherever that makes it shorter."""
    here = context.of(graph, is_draft=True)
    for node in graph.live:
        if not node.is_call or node not in graph.uses or state not in node.leaves:
            continue
        for form in (sum_form, product_form):
            new = form(here, node)
            if new is None or new is node or not may_replace(graph, context.nodes, node, new):
                continue
            shorter = substitute(graph, context.nodes, {node: new})
            if shorter.size < graph.size:
                graph = shorter
                here = context.of(graph, is_draft=True)
                break
    return graph


STATE_RULES: tuple[StateRule, ...] = (
    StateRule(
        "constant-state",
        "m = c at every step, if m starts at c and c turns into c",
        Domain.FINITE,
        _constant,
    ),
    StateRule(
        "duplicate-states",
        "m = v at every step, if they start alike and turn into the same",
        Domain.ALWAYS,
        _duplicates,
    ),
    StateRule(
        "multiple-states",
        "v = c * m at every step, if v starts and goes on so",
        Domain.REAL,
        _multiples,
    ),
    StateRule(
        "rescaled-state",
        "a state m may be kept as c * m, with what it turns into times c and its readers over c",
        Domain.REAL,
        _rescaled,
    ),
)
"""Every rule on states, in the order in which they are tried."""
