"""Tests that the attributes of each op, such as its parity, agree with what the op computes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives import OPS, Kind
from primitives.interval import Interval, float32
from primitives.ops import POWERS

POINTS = np.array([-30, -3, -1, -0.9, -0.5, -1e-3, 0, 1e-3, 0.3, 0.5, 0.99, 1, 2, 30])
RNG = np.random.default_rng(0)
MATRICES = RNG.normal(size=(2, 3, 4))


def ops_with(attribute):
    """Return the ops for which an optional attribute is set, as parameters of tests."""
    return [
        pytest.param(op, id=name) for name, op in OPS.items() if getattr(op, attribute) is not None
    ]


def apply_to_numbers(op, *operands):
    """Apply an op elementwise, as if each element were a model with a single weight."""
    with np.errstate(all="ignore"):
        return np.asarray(op.of_numbers(np, *operands))


def apply_to_array(op, *operands):
    """Apply an op to a model that consists of one array."""
    if op.reduction is None:
        return op.meaning(np, *operands)
    reduce = np.sum if op.reduction.method == "sum" else np.mean
    axis = {Kind.ROW: -1, Kind.COL: -2, Kind.MATRIX: (-2, -1)}.get(op.reduction.kind)
    inputs = op.reduction.inputs(np, *operands)
    totals = tuple(reduce(x, axis=axis, keepdims=axis is not None) for x in inputs)
    return op.meaning(np, totals, *operands)


@pytest.mark.parametrize("op", ops_with("parity"))
def test_negating_the_operands_of_an_even_or_odd_op_keeps_or_negates_the_result(op):
    sign = {"even": 1, "odd": -1}[op.parity]
    x = MATRICES if op.mixes_numbers else POINTS
    with np.errstate(all="ignore"):
        negated, expected = apply_to_array(op, -x), sign * apply_to_array(op, x)
    np.testing.assert_allclose(negated, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", ops_with("inverse"))
def test_an_op_applied_to_the_result_of_its_inverse_gives_the_operand(op):
    x = POINTS[np.abs(POINTS) <= 3]
    inverse = apply_to_numbers(OPS[op.inverse], x)
    is_finite = np.isfinite(inverse)
    assert is_finite.sum() > 1
    result = apply_to_numbers(op, inverse)
    np.testing.assert_allclose(result[is_finite], x[is_finite], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("op", ops_with("exponent"))
def test_an_op_with_an_exponent_raises_magnitudes_to_the_exponent(op):
    is_defined = (POINTS > 0) | (POINTS != 0) & (op.parity is not None)
    x = POINTS[is_defined]
    signs = np.sign(x) if op.parity == "odd" else 1
    expected = signs * np.abs(x) ** op.exponent
    np.testing.assert_allclose(apply_to_numbers(op, x), expected, rtol=1e-12)
    assert POWERS[op.exponent] == op.name


@pytest.mark.parametrize("op", ops_with("of_number"))
def test_a_reduction_of_a_single_number_equals_the_op_named_by_of_number(op):
    operands = [np.roll(POINTS, shift) for shift in range(op.arity)]
    equivalent = OPS[op.of_number]
    result, expected = apply_to_numbers(op, *operands), apply_to_numbers(equivalent, *operands)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.linear], ids=lambda op: op.name)
def test_an_op_is_jointly_linear_in_its_linear_operands(op):
    x, y, fixed = RNG.normal(size=(3, op.arity, 2, 3, 4))

    def apply_with(linear_operands):
        """Apply the op to the given linear operands and to the fixed other operands."""
        operands = [
            linear_operands[index] if index in op.linear else fixed[index]
            for index in range(op.arity)
        ]
        return apply_to_array(op, *operands)

    expected = 2 * apply_with(x) - 3 * apply_with(y)
    np.testing.assert_allclose(apply_with(2 * x - 3 * y), expected, rtol=1e-9, atol=1e-12)


DEGREES = {"sum": lambda arity: arity, "difference": lambda arity: 0, "none": lambda arity: 0}
"""Degree of the result if all operands have degree 1, by the rule in the attribute `order`."""


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.order in DEGREES], ids=lambda op: op.name
)
def test_scaling_all_operands_scales_the_result_as_its_order_says(op):
    operands = [np.abs(x) for x in RNG.normal(size=(op.arity, 2, 3, 4))]
    factor = 8
    result = apply_to_array(op, *(factor * x for x in operands))
    degree = DEGREES[op.order](op.arity)
    expected = factor**degree * apply_to_array(op, *operands)
    np.testing.assert_allclose(result, expected, rtol=1e-9)


MAGNITUDES = [0.0, 1e-30, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0, 1.5, 2.0, 3.0, 10.0, 1e10, 1e30]
NUMBERS = sorted({*MAGNITUDES, *(-x for x in MAGNITUDES)})
BOUNDS = st.sampled_from([-np.inf, *NUMBERS, np.inf])


@st.composite
def intervals(draw):
    """Draw an interval, and return the interval and the list of all `NUMBERS` inside it."""
    low, high = sorted((draw(BOUNDS), draw(BOUNDS)))
    may_be_open = low < high
    open_low = may_be_open and draw(st.booleans())
    open_high = may_be_open and draw(st.booleans())
    interval = Interval(low, high, open_low, open_high)
    return interval, [x for x in NUMBERS if x in interval]


@pytest.mark.parametrize("op", ops_with("interval"))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_results_lie_in_the_interval_computed_from_the_operands(op, data):
    intervals_with_numbers = [data.draw(intervals()) for _ in range(op.arity)]
    interval = float32(op.interval(*(interval for interval, _ in intervals_with_numbers)))
    combinations = list(itertools.product(*(numbers for _, numbers in intervals_with_numbers)))
    operands = np.array(combinations).reshape(len(combinations), op.arity)
    if op.name == "power":  # the interval of a power ignores underflow at large exponents
        operands = operands[(np.abs(operands) <= [1e10, 3.0]).all(axis=1)]
    if operands.size:
        assert_within(apply_to_numbers(op, *operands.T), interval)


@pytest.mark.parametrize("op", ops_with("interval_of_same"))
@settings(max_examples=60, deadline=None)
@given(interval_with_numbers=intervals())
def test_results_for_equal_operands_lie_in_the_interval_for_equal_operands(
    op, interval_with_numbers
):
    interval, numbers = interval_with_numbers
    if numbers:
        x = np.array(numbers)
        assert_within(apply_to_numbers(op, x, x), float32(op.interval_of_same(interval)))


def assert_within(results, interval):
    """Assert that the finite results lie in an interval up to rounding, and not on open bounds."""
    is_finite = np.isfinite(results) & (np.abs(results) < 3e38)
    is_subnormal = np.abs(results) < 1.2e-38
    results = np.where(is_subnormal, 0, results)[is_finite]
    tolerance = 1e-5 * np.maximum(1e-30, np.abs(results))
    assert (results >= interval.low - tolerance).all(), (interval, results.min())
    assert (results <= interval.high + tolerance).all(), (interval, results.max())
    if interval.open_low:
        assert (results != interval.low).all(), interval
    if interval.open_high:
        assert (results != interval.high).all(), interval


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.code and not op.matrixwise], ids=lambda op: op.name
)
def test_code_agrees_with_the_meaning_of_the_op(op):
    """No operand is zero, because `code` does not treat divisions by zero specially."""
    arrays = np.abs(RNG.normal(size=(op.arity, 2, 3, 4))) + 0.1
    operands = [
        array if operand_type == "x" else 0.7
        for operand_type, array in zip(op.operands, arrays, strict=True)
    ]
    with np.errstate(all="ignore"):
        result = eval(op.code, {"xp": np}, named_operands(operands))
        np.testing.assert_allclose(result, apply_to_array(op, *operands), rtol=1e-9)
        if op.python:
            numbers = [float(x) for x in RNG.uniform(0.1, 0.9, op.arity)]
            result = eval(op.python, {}, named_operands(numbers))
            np.testing.assert_allclose(result, apply_to_numbers(op, *numbers), rtol=1e-9)


def named_operands(operands):
    """Return the operands by their names in `code`: `_0`, `_1`, ..."""
    return {f"_{index}": operand for index, operand in enumerate(operands)}
