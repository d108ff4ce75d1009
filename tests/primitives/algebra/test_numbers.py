"""Tests that algebra rounds coefficients only where the update stays the same."""

import numpy as np
import pytest

from primitives import initial_state, parse, step
from primitives.algebra import simplify
from primitives.algebra.numbers import Coefficient, shortest_float32

STEPS = 1_000


def program_and_simplified(*lines, states="m"):
    """Return the program with the given statements, and the simplified program."""
    body = "".join(f"    {line}\n" for line in lines)
    names = ", ".join(state.split(":")[0] for state in states.split(", "))
    program = parse(f"def train(w, g, {states}, t):\n{body}    return u, {names}\n")
    return program, simplify(program, strict=True).program


def last_update(program):
    """Return the update of step `STEPS` for a model with one weight and the gradient 1."""
    weights, gradients = {"a": np.ones(1)}, {"a": np.ones(1)}
    state = initial_state(program, weights, np)
    for t in range(1, STEPS + 1):
        update, state = step(program, state, weights, gradients, lr=1.0, t=t, xp=np)
    return float(update["a"][0])


def test_computed_coefficients_have_the_fewest_digits_within_tolerance():
    assert shortest_float32(0.1 * (1 + 1e-8), 1e-7) == float(np.float32(0.1))
    assert shortest_float32(1 / 3, 1e-9) is None
    assert shortest_float32(1e39, 1e30) is None
    assert Coefficient.from_constant(0.8999999761581421).literal() == 0.8999999761581421
    product = Coefficient.from_constant(3.0).times(Coefficient.from_constant(0.1))
    assert product.literal() == float(np.float32(0.3))


def test_a_coefficient_near_one_keeps_the_digits_of_its_smallest_term():
    """The nearest float32 to 1.000001 does not keep the digits of 0.000001."""
    _, simplified = program_and_simplified("m = m + m * 1e-6", "m = m + g", "u = m * 1.0")
    assert "1e-06" in str(simplified)


@pytest.mark.parametrize("decay", [0.9999999, 0.9999998, 0.9995, 0.99])
def test_a_merged_decay_is_accurate_after_a_thousand_steps(decay):
    """The relative error is at most a float32 rounding error times the decay's time constant."""
    program, simplified = program_and_simplified(
        f"m = m * {decay}", f"m = m * {decay}", "m = m + g", "u = m * 1.0"
    )
    assert len(simplified.statements) == len(program.statements) - 2
    time_constant = min(STEPS, 1 / (1 - decay**2))  # in steps
    tolerance = 2**-24 * time_constant
    assert last_update(simplified) == pytest.approx(last_update(program), rel=tolerance)


@pytest.mark.parametrize(
    "lines",
    [
        ("m = m * 0.9999998", "m = m * 0.9999998", "u = g * m"),
        ("b = power(t, -9e-7)", "m = m * b", "u = g * m"),
        ("a = t + 1.0", "b = power(a, 0.5000009)", "c = sqrt(a)", "m = m * b / c", "u = g * m"),
    ],
)
def test_factors_near_one_that_compound_over_steps_keep_their_effect(lines):
    program, simplified = program_and_simplified(*lines, states="m: scalar(1.0)")
    expected = last_update(program)
    assert abs(expected - 1) > 2e-4
    assert last_update(simplified) == pytest.approx(expected, rel=1e-6)


def test_small_exponents_of_equal_bases_are_added():
    lines = ("a = t + 1.0", "b = power(a, 3e-7)", "m = g * b", "u = m * b")
    _, simplified = program_and_simplified(*lines)
    assert "power(a, 6e-07)" in str(simplified)


@pytest.mark.parametrize("decay", [0.9999998, 0.99999994])
def test_states_with_slightly_different_decays_are_not_merged(decay):
    lines = (f"m = m * {decay}", "m = m + g", "v = v + g", "u = m / v")
    _, simplified = program_and_simplified(*lines, states="m, v")
    assert simplified.returns == ("u", "m", "v")


@pytest.mark.parametrize(
    "lines",
    [
        ("a = g * 1e-38", "b = power(a, 9.0)", "u = reciprocal(b)"),
        ("a = power(g, 1e38)",) + 8 * ("a = power(a, 1e38)",) + ("u = a * t",),
        ("a = power(g, 1e-38)",) + 8 * ("a = power(a, 1e-38)",) + ("u = a * t",),
        30 * ("g = square(g)",) + ("u = g * t",),
        20 * ("g = g * 1e38",) + ("u = cbrt(g)",),
    ],
    ids=["underflow", "steep", "flat", "squares", "overflow"],
)
def test_powers_out_of_the_range_of_floats_do_not_lengthen_the_program(lines):
    program, simplified = program_and_simplified(*lines)
    assert len(simplified.statements) <= len(program.statements)
    assert simplify(simplified).program == simplified


def test_a_state_whose_first_value_would_overflow_is_not_rescaled():
    """Regression: the initial value 1e38 was multiplied by 9."""
    lines = ("v = m / 9.0", "u = v * g", "m = v + g")
    _, simplified = program_and_simplified(*lines, states="m: tensor(1e+38)")
    assert all(np.isfinite(parameter.initial) for parameter in simplified.parameters)
