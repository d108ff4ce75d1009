"""Tests that the equations of a program compute the same as the program."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings

from primitives import OPS, Program, analyse, equations, initial_state, step, zoo
from primitives.text.formula import Negative, Number, Power, Product, Quotient, Sum
from primitives.text.notation import Cases, Form, Relation, Symbol
from tests.strategies import programs

STEPS = 3


class OutOfRangeError(Exception):
    """A value at which rounding errors dominate."""


def evaluate(formula, values):
    """Return the value of a formula, with x / 0 = 0; `values` maps symbols to numbers."""
    parts = [evaluate(operand, values) for operand in formula.operands]
    match formula:
        case Symbol(word="pi" | "e" as name) if name not in values:
            result = float(OPS[f"get_{name}"].meaning(np))
        case Symbol():
            result = values[formula.word]
        case Number(value):
            result = float(np.float32(float(value)))
        case Negative():
            result = -parts[0]
        case Sum():
            result = math.fsum(parts)
        case Product():
            result = math.prod(parts)
        case Quotient():
            result = call("divide", parts)
        case Power():
            result = call("power", parts)
        case Relation():
            result = call({">": "greater", "=": "equal"}[formula.sign], parts)
        case Cases():
            result = call("where", parts)
        case Form(name=name):
            result = call(name, parts)
    if not math.isfinite(result) or (result and not 1e-60 < abs(result) < 1e60):
        raise OutOfRangeError
    return result


def call(name, operands):
    """An op on numbers, each of which is a whole model."""
    op = OPS[name]
    arrays = [np.full((1, 1), operand) for operand in operands]
    with np.errstate(all="ignore"):
        return float(np.squeeze(op.of_numbers(np, *arrays)))


def written_step(lines, before):
    """All symbols' values after one step of equations; `before` are the inputs' and old states'."""
    values = dict(before)
    for line in lines:
        if not line.left.word.endswith("[0]"):
            values[line.left.word] = evaluate(line.right, values)
    return values


def trajectory(program, inputs, nudge=0.0):
    """The weights and states that the equations give, by name, for a few steps."""
    lines = equations(program)
    known = {line.left.word: line for line in lines}
    names = [state.name for state in program.states]
    now = {}
    for state in program.states:
        first = next((known[w] for w in words(state.name, "0") if w in known), None)
        now[state.name] = evaluate(first.right, {}) if first else 0.0
    weight, result = 0.7 + nudge, []
    for number, (g, lr) in enumerate(inputs, 1):
        before = {"t": float(number)}
        for word in words("lr", "t"):
            before[word] = lr * (1 + nudge)
        before["w[t-1]"], before["g[t]"] = weight, g * (1 + nudge)
        for name in names:
            before |= dict.fromkeys(words(name, "t-1"), now[name])
        after = written_step(lines, before)
        weight = after["w[t]"]
        for name in names:
            now[name] = next((after[w] for w in words(name, "t") if w in after), 0.0)
        result.append((weight, *(now[name] for name in names)))
    return np.array(result)


def words(name, index):
    return [f"{name}{chr(39) * primes}[{index}]" for primes in range(3)]


def exact(program):
    """`program` with constants of few binary digits: sums of them are exact in float32."""
    return Program(
        program.parameters,
        tuple(
            s._replace(args=tuple(a if isinstance(a, str) else round(a * 8) / 8 for a in s.args))
            for s in program.statements
        ),
        program.returns,
    )


def assert_same(program, inputs, tolerance=1e-6):
    written = trajectory(program, inputs)
    live = {program.parameters[number].name for number in analyse(program).live_states}
    weights, state = {"a": np.full((1, 1), 0.7)}, initial_state(program, {"a": np.ones((1, 1))}, np)
    for number, (g, lr) in enumerate(inputs, 1):
        update, state = step(
            program, state, weights, {"a": np.full((1, 1), g)}, lr=lr, t=number, xp=np
        )
        weights = {"a": weights["a"] - update["a"]}
        want = [weights["a"], *state]
        got = written[number - 1]
        names = [program.weight, *(s.name for s in program.states)]
        for name, ours, theirs in zip(names, got, want, strict=True):
            if name in live | {program.weight}:
                theirs = theirs[0] if isinstance(theirs, list) else theirs
                np.testing.assert_allclose(ours, np.squeeze(theirs), rtol=tolerance, atol=tolerance)


INPUTS = [(0.3, 1.0), (-1.2, 0.75), (0.9, 0.5)]


ARITHMETIC = ("add", "subtract", "multiply", "divide", "negative", "reciprocal", "interp", "square")


@settings(max_examples=300)
@given(programs(max_statements=12) | programs(max_statements=10, names=ARITHMETIC))
def test_equations_agree_with_the_reference_interpreter(program):
    program = exact(program)
    try:
        written, nudged = trajectory(program, INPUTS), trajectory(program, INPUTS, nudge=1e-11)
    except OutOfRangeError:
        assume(False)
    assume(np.allclose(written, nudged, rtol=1e-7, atol=1e-7))  # else rounding decides
    assert_same(program, INPUTS)


@pytest.mark.parametrize("name", zoo.names())
def test_equations_of_the_zoo_agree_with_the_reference_interpreter(name):
    assert_same(zoo.load(name), INPUTS, tolerance=1e-5)  # 0.1 is written for 1 - float32(0.9)
