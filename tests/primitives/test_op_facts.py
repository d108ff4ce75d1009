"""Tests that the attributes of each op agree with what the op computes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives import OPS, Kind
from primitives.interval import Interval, float32
from primitives.ops import POWERS

POINTS = np.array([-30.0, -3.0, -1.0, -0.9, -0.5, -1e-3, 0.0, 1e-3, 0.3, 0.5, 0.99, 1.0, 2.0, 30.0])
RNG = np.random.default_rng(0)
MATRICES = RNG.normal(size=(2, 3, 4))


def ops_with(attribute):
    return [
        pytest.param(op, id=name) for name, op in OPS.items() if getattr(op, attribute) is not None
    ]


def apply_to_numbers(op, *operands):
    """Apply an op to single numbers; each entry of the operands is a separate model."""
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
def test_parity_says_how_negated_operands_change_the_result(op):
    sign = {"even": 1, "odd": -1}[op.parity]
    x = MATRICES if op.mixes_numbers else POINTS
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            apply_to_array(op, -x), sign * apply_to_array(op, x), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("op", ops_with("inverse"))
def test_an_op_applied_to_its_inverse_is_the_identity(op):
    x = POINTS[np.abs(POINTS) <= 3]
    inner = apply_to_numbers(OPS[op.inverse], x)
    finite = np.isfinite(inner)
    assert finite.sum() > 1
    np.testing.assert_allclose(
        apply_to_numbers(op, inner)[finite], x[finite], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("op", ops_with("exponent"))
def test_an_op_with_an_exponent_raises_to_this_power(op):
    valid = (POINTS > 0) | (POINTS != 0) & (op.parity is not None)
    magnitudes = np.abs(POINTS[valid]) ** op.exponent
    signs = np.sign(POINTS[valid]) if op.parity == "odd" else 1
    np.testing.assert_allclose(apply_to_numbers(op, POINTS[valid]), magnitudes * signs, rtol=1e-12)
    assert POWERS[op.exponent] == op.name


@pytest.mark.parametrize("op", ops_with("of_number"))
def test_a_reduction_of_a_single_number_equals_the_op_named_by_of_number(op):
    operands = [POINTS[start : len(POINTS) - 1 + start] for start in range(op.arity)]
    equivalent = OPS[op.of_number]
    np.testing.assert_allclose(
        apply_to_numbers(op, *operands), apply_to_numbers(equivalent, *operands), rtol=1e-12
    )


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.linear], ids=lambda op: op.name)
def test_an_op_is_jointly_linear_in_its_linear_operands(op):
    x, y, fixed = RNG.normal(size=(3, op.arity, 2, 3, 4))
    mixed = [2 * x[n] - 3 * y[n] if n in op.linear else fixed[n] for n in range(op.arity)]
    x, y = ([z[n] if n in op.linear else fixed[n] for n in range(op.arity)] for z in (x, y))
    expected = 2 * apply_to_array(op, *x) - 3 * apply_to_array(op, *y)
    np.testing.assert_allclose(apply_to_array(op, *mixed), expected, rtol=1e-9, atol=1e-12)


ORDERS = {"sum": lambda arity: arity, "difference": lambda arity: 0, "none": lambda arity: 0}


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.order in ORDERS], ids=lambda op: op.name
)
def test_the_order_of_a_result_follows_the_rule_in_the_table(op):
    operands = [np.abs(x) for x in RNG.normal(size=(op.arity, 2, 3, 4))]
    scaled = apply_to_array(op, *(8 * x for x in operands))
    expected = 8 ** ORDERS[op.order](op.arity) * apply_to_array(op, *operands)
    np.testing.assert_allclose(scaled, expected, rtol=1e-9)


SIZES = [0.0, 1e-30, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0, 1.5, 2.0, 3.0, 10.0, 1e10, 1e30]
NUMBERS = sorted({*SIZES, *(-x for x in SIZES)})
BOUNDS = st.sampled_from([-np.inf, *NUMBERS, np.inf])


@st.composite
def intervals(draw):
    """Draw an interval and return it with the test numbers inside it."""
    low, high = sorted((draw(BOUNDS), draw(BOUNDS)))
    is_open = low < high
    interval = Interval(low, high, is_open and draw(st.booleans()), is_open and draw(st.booleans()))
    return interval, [x for x in NUMBERS if x in interval]


@pytest.mark.parametrize("op", ops_with("interval"))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_results_lie_in_the_interval_computed_from_the_operands(op, data):
    drawn = [data.draw(intervals()) for _ in range(op.arity)]
    interval = float32(op.interval(*(operand for operand, _ in drawn)))
    combinations = list(itertools.product(*(points for _, points in drawn)))
    operands = np.array(combinations).reshape(len(combinations), op.arity)
    if op.name == "power":  # its interval map ignores underflow for large exponents
        operands = operands[(np.abs(operands) <= [1e10, 3.0]).all(axis=1)]
    if operands.size:
        assert_within(apply_to_numbers(op, *operands.T), interval)


@pytest.mark.parametrize("op", ops_with("interval_of_same"))
@settings(max_examples=60, deadline=None)
@given(drawn=intervals())
def test_results_for_equal_operands_lie_in_the_tighter_interval(op, drawn):
    interval, points = drawn
    if points:
        x = np.array(points)
        assert_within(apply_to_numbers(op, x, x), float32(op.interval_of_same(interval)))


def assert_within(results, interval):
    """Assert that results lie in an interval up to rounding, not on open ends; NaN is allowed."""
    results = results[~np.isnan(results)]
    finite = np.isfinite(results) & (np.abs(results) < 3e38)
    results = np.where(np.abs(results) < 1.2e-38, 0, results)[finite]
    slack = 1e-5 * np.maximum(1e-30, np.abs(results))
    assert (results >= interval.low - slack).all(), (interval, results.min())
    assert (results <= interval.high + slack).all(), (interval, results.max())
    if interval.open_low:
        assert (results != interval.low).all(), interval
    if interval.open_high:
        assert (results != interval.high).all(), interval


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.code and not op.matrixwise], ids=lambda op: op.name
)
def test_code_agrees_with_the_meaning_of_the_op(op):
    """No operand is zero, because `code` does not guard divisions."""
    operands = [np.abs(x) + 0.1 for x in RNG.normal(size=(op.arity, 2, 3, 4))]
    operands = [0.7 if type_ == "s" else x for type_, x in zip(op.operands, operands, strict=True)]
    with np.errstate(all="ignore"):
        result = eval(op.code, {"xp": np}, {f"_{n}": x for n, x in enumerate(operands)})
        np.testing.assert_allclose(result, apply_to_array(op, *operands), rtol=1e-9)
        if op.python:
            numbers = [float(x) for x in RNG.uniform(0.1, 0.9, op.arity)]
            result = eval(op.python, {}, {f"_{n}": x for n, x in enumerate(numbers)})
            np.testing.assert_allclose(result, apply_to_numbers(op, *numbers), rtol=1e-9)
