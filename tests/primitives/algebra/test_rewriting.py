"""The predicted change in size equals the change in size that the rewrite causes."""

from hypothesis import assume, event, given
from hypothesis import strategies as st

from primitives.algebra.rewriting import size_change, substitute
from primitives.graph.nodes import Nodes, read
from tests.strategies import programs

REPLACEMENTS = {
    "reads the old operand": lambda nodes, old, other: nodes.call("tanh", old.args[0]),
    "reads the old node": lambda nodes, old, other: nodes.call("tanh", old),
    "reads another node": lambda nodes, old, other: nodes.call(
        "add", nodes.call("tanh", other), other
    ),
}


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
        assert nesting(graph) + change.nesting <= nesting(rewritten)


def nesting(graph):
    return sum(node.depth for node in graph.live)
