"""Tests that the equations of a program give the same weights and states as the program."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings

from primitives import OPS, Program, analyse, equations, initial_state, step, zoo
from primitives.text.formula import Negative, Number, Power, Product, Quotient, Sum
from primitives.text.notation import Cases, Function, Relation, Symbol
from tests.strategies import programs

STEPS = 3


class OutOfRangeError(Exception):
    """A value at which rounding errors dominate."""


def evaluate(formula, values):
    """Return the value of a formula, with x / 0 = 0; `values` maps symbols to numbers."""
    parts = [evaluate(operand, values) for operand in formula.operands]
    match formula:
        case Symbol(plain_text="pi" | "e" as name) if name not in values:
            result = float(OPS[f"get_{name}"].meaning(np))
        case Symbol():
            result = values[formula.plain_text]
        case Number(value):
            result = float(np.float32(float(value)))
        case Negative():
            result = -parts[0]
        case Sum():
            result = math.fsum(parts)
        case Product():
            result = math.prod(parts)
        case Quotient():
            result = apply_op("divide", parts)
        case Power():
            result = apply_op("power", parts)
        case Relation():
            result = apply_op({">": "greater", "=": "equal"}[formula.sign], parts)
        case Cases():
            result = apply_op("where", parts)
        case Function(name=name):
            result = apply_op(name, parts)
    if not math.isfinite(result) or (result and not 1e-60 < abs(result) < 1e60):
        raise OutOfRangeError
    return result


def apply_op(name, operands):
    """Apply an op to numbers; each number is a separate model."""
    op = OPS[name]
    arrays = [np.full((1, 1), operand) for operand in operands]
    with np.errstate(all="ignore"):
        return float(np.squeeze(op.of_numbers(np, *arrays)))


def evaluate_step(lines, inputs):
    """Return the values of all symbols after one step; `inputs` has inputs and old states."""
    values = dict(inputs)
    for line in lines:
        if not line.left.plain_text.endswith("[0]"):
            values[line.left.plain_text] = evaluate(line.right, values)
    return values


def trajectory(program, inputs, perturbation=0.0):
    """Return the weights and states [steps, 1 + states] that the equations compute."""
    lines = equations(program)
    by_symbol = {line.left.plain_text: line for line in lines}
    names = [state.name for state in program.states]
    current = {}
    for state in program.states:
        first = next((by_symbol[w] for w in plain_symbols(state.name, "0") if w in by_symbol), None)
        current[state.name] = evaluate(first.right, {}) if first else 0.0
    weight, result = 0.7 + perturbation, []
    for number, (g, lr) in enumerate(inputs, 1):
        before = {"t": float(number)}
        for word in plain_symbols("lr", "t"):
            before[word] = lr * (1 + perturbation)
        before["w[t-1]"], before["g[t]"] = weight, g * (1 + perturbation)
        for name in names:
            before |= dict.fromkeys(plain_symbols(name, "t-1"), current[name])
        after = evaluate_step(lines, before)
        weight = after["w[t]"]
        for name in names:
            current[name] = next((after[w] for w in plain_symbols(name, "t") if w in after), 0.0)
        result.append((weight, *(current[name] for name in names)))
    return np.array(result)


def plain_symbols(name, index):
    """Return the plain symbols of a variable with zero to two primes."""
    return [f"{name}{chr(39) * primes}[{index}]" for primes in range(3)]


def with_short_constants(program):
    """Return a program with constants rounded to multiples of 1/8, whose sums are exact."""
    return Program(
        program.parameters,
        tuple(
            s._replace(args=tuple(a if isinstance(a, str) else round(a * 8) / 8 for a in s.args))
            for s in program.statements
        ),
        program.returns,
    )


def assert_equations_agree(program, inputs, tolerance=1e-6):
    actual_rows = trajectory(program, inputs)
    live = {program.parameters[number].name for number in analyse(program).live_states}
    weights, state = {"a": np.full((1, 1), 0.7)}, initial_state(program, {"a": np.ones((1, 1))}, np)
    for number, (g, lr) in enumerate(inputs, 1):
        update, state = step(
            program, state, weights, {"a": np.full((1, 1), g)}, lr=lr, t=number, xp=np
        )
        weights = {"a": weights["a"] - update["a"]}
        expected_row = [weights["a"], *state]
        actual_row = actual_rows[number - 1]
        names = [program.weight, *(s.name for s in program.states)]
        for name, actual, expected in zip(names, actual_row, expected_row, strict=True):
            if name in live | {program.weight}:
                expected = np.squeeze(expected[0] if isinstance(expected, list) else expected)
                np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


INPUTS = [(0.3, 1.0), (-1.2, 0.75), (0.9, 0.5)]


ARITHMETIC = ("add", "subtract", "multiply", "divide", "negative", "reciprocal", "interp", "square")


@settings(max_examples=300)
@given(programs(max_statements=12) | programs(max_statements=10, op_names=ARITHMETIC))
def test_equations_agree_with_the_reference_interpreter(program):
    program = with_short_constants(program)
    try:
        rows, perturbed_rows = (
            trajectory(program, INPUTS, perturbation) for perturbation in (0.0, 1e-11)
        )
    except OutOfRangeError:
        assume(False)
    assume(np.allclose(rows, perturbed_rows, rtol=1e-7, atol=1e-7))  # else rounding dominates
    assert_equations_agree(program, INPUTS)


@pytest.mark.parametrize("name", zoo.names())
def test_equations_of_the_zoo_agree_with_the_reference_interpreter(name):
    assert_equations_agree(
        zoo.load(name), INPUTS, tolerance=1e-5
    )  # 0.1 is written for 1 - float32(0.9)
