"""Tests that the size of a graph changes by the predicted number when a node is replaced."""

from hypothesis import assume, event, given
from hypothesis import strategies as st

from primitives.algebra.rewriting import size_change, substitute
from primitives.graph.nodes import Nodes, read
from tests.strategies import programs

REPLACEMENTS = {
    "reads an operand of the old node": lambda nodes, old, other: nodes.call("tanh", old.args[0]),
    "reads the old node": lambda nodes, old, other: nodes.call("tanh", old),
    "reads another node": lambda nodes, old, other: nodes.call(
        "add", nodes.call("tanh", other), other
    ),
}
"""Functions that return a new node to replace the node `old`."""


@given(programs(min_statements=3), st.data(), st.sampled_from(sorted(REPLACEMENTS)))
def test_the_predicted_size_change_equals_the_change_after_rewriting(program, data, replacement):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    calls = [node for node in graph.live if node.args]
    assume(calls)
    old, other = (data.draw(st.sampled_from(calls)) for _ in range(2))
    new = REPLACEMENTS[replacement](nodes, old, other)
    change = size_change(graph, old, new)
    event(f"{replacement}: {'predicted' if change else 'not predicted'}")
    if change:
        rewritten = substitute(graph, nodes, {old: new})
        assert graph.size + change.statements == rewritten.size
        assert total_depth(graph) + change.nesting <= total_depth(rewritten)


def total_depth(graph):
    return sum(node.depth for node in graph.live)
