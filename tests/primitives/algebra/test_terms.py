"""Graphs of terms: what a rewrite does to a program's size, before it is made."""

from hypothesis import assume, event, given
from hypothesis import strategies as st

from primitives.algebra.terms import Terms, growth, read, substitute
from tests.strategies import programs

NEW = {
    "of what it was made of": lambda terms, old, other: terms.call("tanh", old.args[0]),
    "of itself": lambda terms, old, other: terms.call("tanh", old),
    "of something else": lambda terms, old, other: terms.call(
        "add", terms.call("tanh", other), other
    ),
}


@given(programs(min_statements=3), st.data(), st.sampled_from(sorted(NEW)))
def test_the_growth_told_is_that_of_the_graph_with_the_other_term(program, data, made):
    terms = Terms()
    graph, _ = read(program, terms)
    calls = [term for term in graph.live if term.args]
    assume(calls)
    old, other = (data.draw(st.sampled_from(calls)) for _ in range(2))
    new = NEW[made](terms, old, other)
    told = growth(graph, old, new)
    event(f"{made}: {'told' if told else 'not told'}")
    if told:
        grown = substitute(graph, terms, {old: new})
        assert graph.size + told.size == grown.size
        assert nesting(graph) + told.nesting <= nesting(grown)


def nesting(graph):
    return sum(term.depth for term in graph.live)
