"""Tests of statement graphs, and of graphs in which equal values are one node."""

from hypothesis import given

from primitives import OPS, analyse, live, parse
from primitives.graph.nodes import Nodes, read
from primitives.graph.statements import StatementGraph, bias_correction, resolved
from tests.strategies import programs


@given(programs())
def test_merging_the_equal_values_of_a_statement_graph_gives_the_graph_of_the_program(program):
    statement_graph, nodes = StatementGraph(program), Nodes()
    graph, _ = read(program, nodes)
    merged = {}
    for parameter in statement_graph.parameters:
        merged[parameter] = nodes.leaf(parameter.op, parameter.kind, parameter.name)
    for node in statement_graph.positions:
        if node.is_constant:
            merged[node] = nodes.constant(node.value)
    for statement in statement_graph.statements:
        merged[statement] = nodes.call(statement.op, *[merged[arg] for arg in statement.args])
        assert merged[statement].kind == statement.kind
    assert merged[statement_graph.update] is graph.update
    next_values = {
        state.name: merged[value] for state, value in statement_graph.next_values.items()
    }
    live_next_values = {name: next_values[name] for name in graph.next_values}
    assert graph.next_values == live_next_values


@given(programs())
def test_a_graph_has_no_dead_states_and_no_duplicate_values(program):
    nodes = Nodes()
    graph, _ = read(program, nodes)
    graph_of_live_program, _ = read(live(program), nodes)
    assert graph_of_live_program.update is graph.update
    assert graph_of_live_program.next_values == graph.next_values
    assert set(graph.next_values) == {state.name for state in live(program).states}
    values = [(node.op, node.args, node.value, node.name, node.kind) for node in graph.live]
    assert len(values) == len(set(values))


@given(programs())
def test_a_statement_graph_agrees_with_the_statements_and_the_analysis_of_its_program(program):
    statement_graph, analysis = StatementGraph(program), analyse(program)
    for node, (index, operand_index) in statement_graph.positions.items():
        args = program.statements[index].args
        if node.is_constant:
            assert args[operand_index] == node.value
        else:
            assert not args
    for node, statement in zip(statement_graph.statements, program.statements, strict=True):
        assert (node.name, node.op_entry) == (statement.target, OPS[statement.op])
    kinds = [node.kind for node in (*statement_graph.parameters, *statement_graph.statements)]
    assert tuple(kinds) == analysis.kinds
    live_indices = [statement_graph.index(node) for node in statement_graph.live_statements]
    assert live_indices == [*analysis.live_statements]
    for node, users in statement_graph.users.items():
        assert all(user.args[operand_index] is node for user, operand_index in users)


def test_resolved_and_bias_correction_follow_copies():
    program = parse(
        "def train(w, g, t):\n  one = 1.0\n  power1 = power(0.9, t)\n  copy = power1\n"
        "  correction = one - copy\n  negated = copy - one\n  u = g / correction\n  return u"
    )
    _, power, copy, correction, negated, _ = StatementGraph(program).statements
    assert resolved(copy) is power
    assert bias_correction(correction) is power
    assert bias_correction(negated) is None


def test_constant_returns_none_for_a_node_of_another_graph():
    program = parse("def train(w, g):\n  one = 1.0\n  u = g * one\n  return u")
    one, _ = StatementGraph(program).statements
    assert StatementGraph(program).constant(one) is None
