"""Tests of statement graphs and of graphs with merged values."""

from hypothesis import given

from primitives import OPS, analyse, live, parse
from primitives.graph.nodes import Nodes, read
from primitives.graph.statements import StatementGraph, bias_correction, resolved
from tests.strategies import programs


@given(programs())
def test_merging_equal_statements_gives_the_graph(program):
    statement_graph, nodes = StatementGraph(program), Nodes()
    graph, _ = read(program, nodes)
    merged = {
        leaf: nodes.leaf(leaf.op, leaf.kind, leaf.name) for leaf in statement_graph.parameters
    }
    merged |= {
        node: nodes.constant(node.value) for node in statement_graph.positions if node.is_constant
    }
    for statement in statement_graph.statements:
        merged[statement] = nodes.call(statement.op, *[merged[arg] for arg in statement.args])
        assert merged[statement].kind == statement.kind
    assert merged[statement_graph.update] is graph.update
    next_values = {
        state.name: merged[value] for state, value in statement_graph.next_values.items()
    }
    assert graph.next_values == {name: next_values[name] for name in graph.next_values}


@given(programs())
def test_a_graph_is_live_and_has_no_duplicate_values(program):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    again, _ = read(live(program), nodes)
    assert again.update is graph.update
    assert again.next_values == graph.next_values
    assert set(graph.next_values) == {state.name for state in live(program).states}
    values = [(node.op, node.args, node.value, node.name, node.kind) for node in graph.live]
    assert len(values) == len(set(values))


@given(programs())
def test_statement_graphs_know_the_positions_of_constants(program):
    statement_graph, analysis = StatementGraph(program), analyse(program)
    for constant, (index, operand) in statement_graph.positions.items():
        args = program.statements[index].args
        assert not args if not constant.is_constant else args[operand] == constant.value
    for statement, text in zip(statement_graph.statements, program.statements, strict=True):
        assert (statement.name, statement.op_entry) == (text.target, OPS[text.op])
    kinds = [node.kind for node in (*statement_graph.parameters, *statement_graph.statements)]
    assert tuple(kinds) == analysis.kinds
    assert [statement_graph.index(node) for node in statement_graph.live_statements] == [
        *analysis.live_statements
    ]
    for node, users in statement_graph.users.items():
        assert all(user.args[operand] is node for user, operand in users)


def test_resolved_follows_copies():
    program = parse(
        "def train(w, g, t):\n  one = 1.0\n  p = power(0.9, t)\n  q = p\n"
        "  c = one - q\n  d = q - one\n  u = g / c\n  return u"
    )
    one, p, q, c, d, _ = StatementGraph(program).statements
    assert resolved(q) is p
    assert bias_correction(c) is p
    assert bias_correction(d) is None
    assert StatementGraph(program).constant(one) is None  # of another graph
