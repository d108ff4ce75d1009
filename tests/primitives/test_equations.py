"""Tests that the equations of a program give the same weights and states as the program."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings

from primitives import OPS, Program, analyse, equations, initial_state, step, zoo
from primitives.text.formula import Negative, Number, Power, Product, Quotient, Sum
from primitives.text.notation import Cases, Function, Relation, Symbol
from tests.strategies import programs

INPUTS = [(0.3, 1.0), (-1.2, 0.75), (0.9, 0.5)]
"""The gradient of the single weight and the value of `lr` in each step."""
INITIAL_WEIGHT = 0.7


class OutOfRangeError(Exception):
    """A value that is not finite, or too large or small to compare with another computation."""


def evaluate(formula, values):
    """Return the value of a formula, with x / 0 = 0; `values` maps symbols to numbers."""
    operands = [evaluate(operand, values) for operand in formula.operands]
    match formula:
        case Symbol(plain_text="pi" | "e" as name) if name not in values:
            result = float(OPS[f"get_{name}"].meaning(np))
        case Symbol():
            result = values[formula.plain_text]
        case Number(value):
            result = float(np.float32(float(value)))
        case Negative():
            result = -operands[0]
        case Sum():
            result = math.fsum(operands)
        case Product():
            result = math.prod(operands)
        case Quotient():
            result = apply_op("divide", operands)
        case Power():
            result = apply_op("power", operands)
        case Relation():
            result = apply_op({">": "greater", "=": "equal"}[formula.sign], operands)
        case Cases():
            result = apply_op("where", operands)
        case Function(name=name):
            result = apply_op(name, operands)
    if not math.isfinite(result) or (result and not 1e-60 < abs(result) < 1e60):
        raise OutOfRangeError
    return result


def apply_op(name, operands):
    """Return the result of an op for a model with a single weight."""
    op = OPS[name]
    arrays = [np.full((1, 1), operand) for operand in operands]
    with np.errstate(all="ignore"):
        return float(np.squeeze(op.of_numbers(np, *arrays)))


def evaluate_step(program_equations, inputs):
    """Return the values of all symbols after a step, given the inputs and the old states."""
    values = dict(inputs)
    for equation in program_equations:
        if not equation.left.plain_text.endswith("[0]"):
            values[equation.left.plain_text] = evaluate(equation.right, values)
    return values


def symbols_of(name, index):
    """Return the symbols that a variable may have: its name and zero to two primes."""
    return [f"{name}{chr(39) * primes}[{index}]" for primes in range(3)]


def value_of(name, index, values):
    """Return the value of a variable, or 0.0 if `values` has none of the variable's symbols."""
    return next((values[text] for text in symbols_of(name, index) if text in values), 0.0)


def trajectory(program, inputs, perturbation=0.0):
    """Return the weight and the states after each step [steps, 1 + states], from the equations.

    Args:
        program: the program.
        inputs: for each step the gradient of the weight and the value of `lr`.
        perturbation: absolute change of the initial weight, relative change of the inputs.
    """
    program_equations = equations(program)
    initial_values = {
        equation.left.plain_text: evaluate(equation.right, {})
        for equation in program_equations
        if equation.left.plain_text.endswith("[0]")
    }
    states = {state.name: value_of(state.name, "0", initial_values) for state in program.states}
    weight, rows = INITIAL_WEIGHT + perturbation, []
    for t, (gradient, lr) in enumerate(inputs, 1):
        values = {"t": float(t), "w[t-1]": weight, "g[t]": gradient * (1 + perturbation)}
        values |= dict.fromkeys(symbols_of("lr", "t"), lr * (1 + perturbation))
        for name, value in states.items():
            values |= dict.fromkeys(symbols_of(name, "t-1"), value)
        values = evaluate_step(program_equations, values)
        weight = values["w[t]"]
        states = {name: value_of(name, "t", values) for name in states}
        rows.append((weight, *states.values()))
    return np.array(rows)


def with_short_constants(program):
    """Return a program with constants rounded to multiples of 1/8, whose sums are exact."""

    def rounded(arg):
        return arg if isinstance(arg, str) else round(arg * 8) / 8

    statements = tuple(
        statement._replace(args=tuple(map(rounded, statement.args)))
        for statement in program.statements
    )
    return Program(program.parameters, statements, program.returns)


def assert_equations_agree(program, inputs, tolerance=1e-6):
    """Compare weight and live states with the reference interpreter after each step."""
    rows = trajectory(program, inputs)
    live_states = {program.parameters[index].name for index in analyse(program).live_states}
    names = [program.weight, *(state.name for state in program.states)]
    weights = {"a": np.full((1, 1), INITIAL_WEIGHT)}
    state = initial_state(program, weights, np)
    for t, (gradient, lr) in enumerate(inputs, 1):
        gradients = {"a": np.full((1, 1), gradient)}
        update, state = step(program, state, weights, gradients, lr=lr, t=t, xp=np)
        weights = {"a": weights["a"] - update["a"]}
        for name, actual, expected in zip(names, rows[t - 1], [weights["a"], *state], strict=True):
            if name in live_states | {program.weight}:
                expected = np.squeeze(expected[0] if isinstance(expected, list) else expected)
                np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


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
    assume(np.allclose(rows, perturbed_rows, rtol=1e-7, atol=1e-7))  # not chaotic
    assert_equations_agree(program, INPUTS)


@pytest.mark.parametrize("name", zoo.names())
def test_equations_of_the_zoo_agree_with_the_reference_interpreter(name):
    """The tolerance allows for 1 - 0.9, which equations write as 0.1, not as 1 - float32(0.9)."""
    assert_equations_agree(zoo.load(name), INPUTS, tolerance=1e-5)
