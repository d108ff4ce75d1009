"""Tests that simplification keeps updates, never lengthens a program, and is idempotent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives import OPS, Kind, analyse, live, parse, semantic_key, zoo
from primitives.algebra import Domain, simplify
from tests.primitives.algebra.obfuscation import obfuscated
from tests.primitives.algebra.updates import STREAMS, assert_same_updates, run
from tests.primitives.example_programs import RAW_LION
from tests.strategies import programs

ARITHMETIC = ["add", "subtract", "multiply", "divide", "interp", "negative", "square", "sqrt"]
ARITHMETIC += ["sign", "abs", "reciprocal", "cube", "cbrt", "power", "maximum"]


@settings(max_examples=10)
@given(programs(min_statements=3, max_statements=12))
def test_simplification_keeps_the_update(program):
    assert_same_updates(program, simplify(program, strict=True))


@settings(max_examples=10)
@given(programs(min_statements=3, max_statements=12, op_names=ARITHMETIC))
def test_simplification_of_arithmetic_keeps_the_update(program):
    assert_same_updates(program, simplify(program, strict=True))


@settings(max_examples=10)
@given(programs(min_statements=3, max_statements=10, op_names=ARITHMETIC))
def test_rules_that_hold_for_all_numbers_also_keep_updates_that_are_not_finite(program):
    derivation = simplify(program, within=Domain.ALWAYS, strict=True)
    assert derivation.domain == Domain.ALWAYS
    assert_same_updates(program, derivation)


def test_a_constant_state_is_removed_from_an_ill_conditioned_update():
    """Regression: the effect of rewriting b / b was attributed to the rule on constant states."""
    program = parse(
        "def train(w, g, m: tensor(1.0)):\n"
        "  s = interp(g, g, 0.1)\n  b = s - g\n  a = b / b\n  v = a - g\n"
        "  c = interp(g, v, 0.9999)\n  u = c + m\n  return u, m"
    )
    assert not simplify(program, strict=True).program.states


@settings(max_examples=15)
@given(programs(min_statements=3, max_statements=60))
def test_simplification_is_idempotent_and_never_lengthens(program):
    simplified = simplify(program, strict=True).program
    assert simplify(simplified).program == simplified
    assert simplify(simplified).steps == ()
    assert len(simplified.statements) <= len(analyse(program).live_statements)
    assert len(simplified.states) <= len(live(program).states)
    assert parse(str(simplified)) == simplified


@settings(max_examples=15)
@given(programs(min_statements=3, max_statements=15, op_names=ARITHMETIC))
def test_each_step_starts_at_the_result_of_the_previous_one_and_is_not_longer(program):
    derivation = simplify(program)
    assert derivation.refused == ()
    derived = [program, *(step.after for step in derivation.steps)]
    assert [step.before for step in derivation.steps] == derived[:-1]
    assert derived[-1] == derivation.program
    lengths = [len(program.statements) for program in derived]
    assert lengths == sorted(lengths, reverse=True)


def test_raw_lion_simplifies_to_nine_statements():
    """The unused state is removed, m / sqrt(m * m) becomes a sign, two interps become one."""
    derivation = simplify(RAW_LION, strict=True)
    assert str(derivation.program) == (
        "def train(w, g, v, lr):\n"
        "    g = clip(g, lr)\n"
        "    g = arcsin(g)\n"
        "    m = interp(g, v, 0.9)\n"
        "    v = ema(g, v, 0.99821967)\n"
        "    v2 = sign(m)\n"
        "    v3 = w * 0.46019784\n"
        "    v4 = v2 + v3\n"
        "    lr = lr * 0.00021717617\n"
        "    update = v4 * lr\n"
        "    return update, v\n"
    )
    assert [step.rule for step in derivation.steps] == [
        "dead",
        "written-once",
        "fold",
        "power-form",
        "power-form",
        "common-factor",
    ]
    assert [step.reason.split(", where")[0].split(", in real")[0] for step in derivation.steps] == [
        "statements and states that no update reads",
        "each value once, copies replaced by what they copy, in one order",
        "interp(g, interp(g, v, 0.9), 1.109133) = interp(g, v, 0.99821967)",
        "sqrt(m * m) = abs(m)",
        "(m * lr) / abs(m) = sign(m) * lr",
        "(sign(m) * lr) + (w * (lr * 0.46019784)) = (sign(m) + (w * 0.46019784)) * lr",
    ]
    assert_same_updates(RAW_LION, derivation)


@pytest.mark.parametrize("name", zoo.names())
def test_simplification_keeps_the_updates_of_the_zoo(name):
    derivation = simplify(zoo.load(name), strict=True)
    assert_same_updates(zoo.load(name), derivation, ("mixed", "sparse"))
    assert len(derivation.program.states) == len(zoo.load(name).states)


NOT_SIMPLIFIED = ["adagrad", "adam", "adamw", "adamw_paper", "amsgrad", "lamb", "lion", "momentum"]
NOT_SIMPLIFIED += ["nadam", "rmsprop", "sgd", "sign_sgd", "signum"]


@pytest.mark.parametrize("name", NOT_SIMPLIFIED)
def test_simplification_does_not_change_the_key_of_optimizers_that_are_already_simple(name):
    assert semantic_key(simplify(zoo.load(name)).program) == semantic_key(zoo.load(name))


MAX_FAILURE_RATE = 0.05


@pytest.mark.parametrize("program_count", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_at_least_95_percent_of_obfuscated_optimizers_simplify_to_the_original(program_count):
    keys = {name: semantic_key(simplify(zoo.load(name)).program) for name in zoo.names()}
    failures = []
    for seed in range(program_count):
        name = zoo.names()[seed % len(keys)]
        program = obfuscated(zoo.load(name), np.random.default_rng(seed))
        derivation = simplify(program, strict=True)
        if semantic_key(derivation.program) != keys[name]:
            failures.append((name, seed))
    assert len(failures) <= MAX_FAILURE_RATE * program_count, failures


@settings(max_examples=30)
@given(name=st.sampled_from(zoo.names()), seed=st.integers(0, 2**32 - 1))
def test_an_obfuscated_optimizer_makes_the_same_updates_in_more_statements(name, seed):
    program = obfuscated(zoo.load(name), np.random.default_rng(seed))
    assert parse(str(program)) == program
    assert len(program.statements) > len(zoo.load(name).statements)
    actual, _ = run(program, "ordinary")
    expected, _ = run(zoo.load(name), "ordinary")
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-7)


# --- states ---

REDUNDANT_STATES = {
    "a constant state": (
        "def train(w, g, m: tensor(2.0)):\n  u = g * m\n  return u, m",
        "def train(w, g):\n  u = g * 2.0\n  return u",
    ),
    "a state that decays from zero": (
        "def train(w, g, m):\n  m = m * 0.9\n  u = g + m\n  return u, m",
        "def train(w, g):\n  return g",
    ),
    "two equal states": (
        "def train(w, g, m, v):\n"
        "  m = interp(g, m, 0.9)\n  v = interp(g, v, 0.9)\n  u = sin(m) * v\n  return u, m, v",
        "def train(w, g, m):\n  m = ema(g, m, 0.9)\n  v1 = sin(m)\n  u = v1 * m\n  return u, m",
    ),
    "a multiple of another state": (
        "def train(w, g, m, v):\n"
        "  m = m * 0.9 + g\n  v = v * 0.9 + g * 3\n  u = sin(m) * v\n  return u, m, v",
        "def train(w, g, m):\n"
        "  x = m * 0.9\n  m = x + g\n  y = sin(m)\n  z = y * m\n  u = z * 3.0\n  return u, m",
    ),
    "a state whose constant factor can move into the update": (
        "def train(w, g, m, lr):\n  m = m * 0.9 + g * 0.3\n  u = m * (lr * 0.01)\n  return u, m",
        "def train(w, g, m, lr):\n"
        "  x = m * 0.9\n  m = x + g\n  lr = lr * 0.003\n  u = m * lr\n  return u, m",
    ),
    "a state that is overwritten before it is read": (
        "def train(w, g, v, lr, t):\n  v = g\n  u = v * lr\n  return u, v",
        "def train(w, g, lr):\n  u = g * lr\n  return u",
    ),
}


@pytest.mark.parametrize("case", REDUNDANT_STATES)
def test_redundant_states_are_removed(case):
    program, shorter = map(parse, REDUNDANT_STATES[case])
    derivation = simplify(program, strict=True)
    assert semantic_key(derivation.program) == semantic_key(shorter)
    assert len(derivation.program.states) == len(shorter.states)
    assert_same_updates(program, derivation)


@pytest.mark.parametrize(
    "text",
    [
        "def train(w, g, m):\n  u = m\n  m = g\n  return u, m",  # the gradient of the last step
        "def train(w, g, m: tensor(1.0), v):\n  u = m - v\n  m = m + g\n  v = v + g\n"
        "  return u, m, v",
        "def train(w, g, m: leaf, v):\n  m = mean(g) + m\n  v = mean(g) + v\n"
        "  x = norm(m)\n  y = norm(v)\n  u = x / y\n  return u, m, v",
        "def train(w, g, m, v):\n  u = m - v\n  x = v + g\n  v = m\n  m = x\n  return u, m, v",
    ],
)
def test_states_that_differ_are_not_merged(text):
    derivation = simplify(parse(text), strict=True)
    assert len(derivation.program.states) == len(parse(text).states)
    assert_same_updates(parse(text), derivation)


# --- kinds ---


def test_a_tensor_of_ones_is_not_replaced_by_the_number_one_in_a_norm():
    """The norm of a tensor of ones depends on the number of weights."""
    text = "def train(w, g):\n  ones = equal(w, w)\n  n = norm(ones)\n  u = g / n\n  return u"
    derivation = simplify(parse(text), strict=True)
    assert "equal" in str(derivation.program)
    without_norm = parse("def train(w, g):\n  ones = equal(w, w)\n  u = g * ones\n  return u")
    assert simplify(without_norm).program == parse("def train(w, g):\n  return g")


@settings(max_examples=15)
@given(programs(min_statements=3, max_statements=14))
def test_simplification_keeps_the_kinds_of_states(program):
    kinds = {state.name: state.kind for state in program.states}
    for state in simplify(program).program.states:
        assert state.kind == kinds[state.name]
        assert state.kind in Kind


def test_unused_schedule_inputs_are_removed():
    program = parse("def train(w, g, lr, t):\n  x = t - t\n  u = g * lr + x\n  return u")
    assert [parameter.name for parameter in simplify(program).program.parameters] == [
        "w",
        "g",
        "lr",
    ]


def test_simplification_keeps_the_update_of_each_op():
    for op in OPS.values():
        args = ", ".join("lr" if operand_type == "s" else "g" for operand_type in op.operands)
        program = parse(f"def train(w, g, lr):\n  u = {op.name}({args})\n  return u")
        assert_same_updates(program, simplify(program, strict=True), STREAMS[:2])
