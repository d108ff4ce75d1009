"""Graphs of nodes: what a rewrite does to a program's size, before it is made."""

from hypothesis import assume, event, given
from hypothesis import strategies as st

from primitives.algebra.rewriting import growth, substitute
from primitives.graph.nodes import Nodes, read
from tests.strategies import programs

NEW = {
    "of what it was made of": lambda nodes, old, other: nodes.call("tanh", old.args[0]),
    "of itself": lambda nodes, old, other: nodes.call("tanh", old),
    "of something else": lambda nodes, old, other: nodes.call(
        "add", nodes.call("tanh", other), other
    ),
}


@given(programs(min_statements=3), st.data(), st.sampled_from(sorted(NEW)))
def test_the_growth_told_is_that_of_the_graph_with_the_other_term(program, data, made):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    calls = [node for node in graph.live if node.args]
    assume(calls)
    old, other = (data.draw(st.sampled_from(calls)) for _ in range(2))
    new = NEW[made](nodes, old, other)
    told = growth(graph, old, new)
    event(f"{made}: {'told' if told else 'not told'}")
    if told:
        grown = substitute(graph, nodes, {old: new})
        assert graph.size + told.size == grown.size
        assert nesting(graph) + told.nesting <= nesting(grown)


def nesting(graph):
    return sum(node.depth for node in graph.live)
