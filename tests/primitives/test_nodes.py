"""The one graph: what is written and what is computed are graphs of the same nodes."""

from hypothesis import given

from primitives import OPS, analyse, live, parse
from primitives.graph.nodes import Nodes, read
from primitives.graph.statements import StatementGraph, bias_correction, resolved
from tests.strategies import programs


@given(programs())
def test_merging_what_is_written_gives_what_is_computed(program):
    written, nodes = StatementGraph(program), Nodes()
    graph, _ = read(program, nodes)
    made = {leaf: nodes.leaf(leaf.op, leaf.kind, leaf.name) for leaf in written.parameters}
    made |= {one: nodes.constant(one.value) for one in written.places if one.is_constant}
    for statement in written.statements:
        made[statement] = nodes.call(statement.op, *[made[arg] for arg in statement.args])
        assert made[statement].kind == statement.kind
    assert made[written.update] is graph.update
    following = {state.name: made[value] for state, value in written.following.items()}
    assert graph.following == {name: following[name] for name in graph.following}


@given(programs())
def test_a_graph_is_live_and_has_each_value_once(program):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    again, _ = read(live(program), nodes)
    assert again.update is graph.update
    assert again.following == graph.following
    assert set(graph.following) == {state.name for state in live(program).states}
    made = [(node.op, node.args, node.value, node.name, node.kind) for node in graph.live]
    assert len(made) == len(set(made))


@given(programs())
def test_what_is_written_stands_where_its_place_says(program):
    written, analysis = StatementGraph(program), analyse(program)
    for constant, (index, operand) in written.places.items():
        args = program.statements[index].args
        assert not args if not constant.is_constant else args[operand] == constant.value
    for statement, text in zip(written.statements, program.statements, strict=True):
        assert (statement.name, statement.row) == (text.target, OPS[text.op])
    kinds = [node.kind for node in (*written.parameters, *written.statements)]
    assert tuple(kinds) == analysis.kinds
    assert [written.index(one) for one in written.live_statements] == [*analysis.live_statements]
    for node, users in written.users.items():
        assert all(user.args[place] is node for user, place in users)


def test_copies_are_looked_through():
    program = parse(
        "def train(w, g, t):\n  one = 1.0\n  p = power(0.9, t)\n  q = p\n"
        "  c = one - q\n  d = q - one\n  u = g / c\n  return u"
    )
    one, p, q, c, d, _ = StatementGraph(program).statements
    assert resolved(q) is p
    assert bias_correction(c) is p
    assert bias_correction(d) is None
    assert StatementGraph(program).constant(one) is None  # of another graph
