"""Tests of abstract execution: which statements and states are live, and the kinds of values."""

import numpy as np
import pytest
from hypothesis import given, settings

from primitives import Kind, analyse, check, initial_state, live, parse, semantic_key, step, zoo
from primitives.kinds import kind_shape
from tests.primitives.example_programs import PRUNED_LION, RAW_LION, medium_programs, updates
from tests.strategies import programs


def test_raw_lion_has_one_live_state_and_twelve_live_statements():
    """The next step overwrites the returned `m = cosh(update)` before reading it."""
    analysis = analyse(RAW_LION)
    assert [RAW_LION.parameters[index].name for index in analysis.live_states] == ["v"]
    assert str(live(RAW_LION)) == (
        "def train(w, g, v, lr):\n"
        "    g = clip(g, lr)\n"
        "    g = arcsin(g)\n"
        "    m = interp(g, v, 0.8999999761581421)\n"
        "    v1 = m * m\n"
        "    v = interp(g, m, 1.109133005142212)\n"
        "    lr = lr * 0.0002171761734643951\n"
        "    update = m * lr\n"
        "    v1 = sqrt(v1)\n"
        "    update = update / v1\n"
        "    wd = lr * 0.4601978361606598\n"
        "    wd = wd * w\n"
        "    update = update + wd\n"
        "    return update, v\n"
    )


def test_pruned_lion_has_one_live_state():
    assert [state.name for state in live(PRUNED_LION).states] == ["v"]
    assert "cosh" not in str(live(PRUNED_LION))


def test_programs_printed_in_the_paper_give_finite_updates():
    assert np.isfinite(updates(PRUNED_LION, 20)).all()
    assert np.isfinite(updates(RAW_LION, 20)).all()


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_programs_have_no_dead_statements(name):
    assert live(zoo.load(name)) == zoo.load(name)


def test_a_state_read_only_by_itself_is_dead():
    program = parse("def train(w, g, m, v):\n  m = m * 0.9\n  v = g + v\n  return v, m, v")
    assert [state.name for state in live(program).states] == ["v"]


def test_states_that_feed_only_each_other_are_dead():
    program = parse("def train(w, g, m, v):\n  x = m + g\n  m = v\n  v = x\n  return g, m, v")
    assert live(program) == parse("def train(w, g):\n  return g")


def test_a_state_read_through_another_state_is_live():
    program = parse("def train(w, g, m, v):\n  u = m\n  m = v\n  v = g\n  return u, m, v")
    assert live(program) == program


@settings(max_examples=60)
@given(medium_programs)
def test_live_keeps_updates_and_key_and_is_idempotent(program):
    reduced = live(program)
    assert live(reduced) == reduced
    assert semantic_key(reduced) == semantic_key(program)
    assert len(reduced.statements) == len(analyse(program).live_statements)
    assert parse(str(reduced)) == reduced
    np.testing.assert_array_equal(updates(reduced), updates(program))


# --- kinds ---


@settings(max_examples=60)
@given(programs(max_statements=12))
def test_states_have_the_shapes_of_their_kinds_after_a_step(program):
    expected_shapes = [kind_shape(state.kind, (2, 3, 4)) for state in program.states]
    assert next_state_shapes(program, (2, 3, 4)) == expected_shapes
    parameters = {parameter.name for parameter in program.parameters}
    targets = {statement.target for statement in program.statements}
    assert set(check(program)) == parameters | targets


def next_state_shapes(program, shape):
    """Return the shape of each state after one step on an array of the given shape."""
    ones = np.ones(shape)
    _, next_state = step(program, initial_state(program, ones, np), ones, ones, xp=np)
    return [state[0].shape if isinstance(state, list) else state.shape for state in next_state]


def test_check_returns_the_kind_of_every_variable():
    kinds = check(zoo.load("adafactor"))
    assert kinds["r"] == kinds["row_scale"] == Kind.ROW
    assert kinds["c"] == Kind.COL
    assert kinds["update"] == Kind.TENSOR
    assert kinds["decay"] == kinds["lr"] == kinds["t"] == Kind.SCALAR
    assert kinds["scale"] == Kind.LEAF


def test_the_analysis_with_changed_constants_is_that_of_the_changed_program():
    text = "def train(w, g, m, lr):\n    m = interp(g, m, {})\n    d = m * 0.5\n    u = m * {}\n"
    text += "    u = u * lr\n    return u, m\n"
    first, second = parse(text.format(0.9, 2.0)), parse(text.format(0.8, -3.0))
    changed = analyse(first).with_constants_of(second)
    assert changed == analyse(second)
    assert changed.key == analyse(second).key != analyse(first).key
