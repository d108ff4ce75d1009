"""Tests what each op of the op table computes, and the kinds of its operands and results."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primitives import OPS, Kind, Parameter, Program, Statement, check, ops, parse, step
from primitives.kinds import fits, join, kind_shape, matrix_view, meet

PAPER_OPS = (
    "abs cos sin tan arcsin arccos arctan exp log sinh cosh tanh arcsinh arccosh arctanh sign "
    "exp2 exp10 expm1 log10 log2 log1p square sqrt cube cbrt reciprocal "
    "add subtract multiply divide power maximum minimum norm global_norm dot cosine_sim clip "
    "interp get_pi get_e get_eps"
)
POINTS = [-80.0, -3.0, -1.0, -0.99, -0.5, -1e-3, -1e-8, 0.0, 1e-8, 1e-3]
POINTS += [0.3, 0.5, 0.99, 1.0, 1.5, 2.0, 3.0, 10.0, 30.0, 88.0]
FLOAT32_LIMITS = np.finfo(np.float32)
MODEL = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([5.0, 6.0])}
GRADIENT = {"a": np.array([[0.5, -1.0], [0.0, 2.0]]), "b": np.array([1.0, -3.0])}


def program_with(op):
    """Return a program whose update is `op` applied to w, g and constants."""
    tensors = iter(["w", "g", "w"])
    args = tuple(next(tensors) if operand_type == "x" else 0.75 for operand_type in op.operands)
    return Program(
        (Parameter("w"), Parameter("g")), (Statement("update", op.name, args),), ("update",)
    )


def test_the_paper_set_is_the_43_ops_of_the_paper():
    assert " ".join(ops.names("paper")) == PAPER_OPS
    assert len(ops.names("paper")) == 43
    assert set(ops.names("paper")) < set(ops.names("full")) == set(OPS)


def test_names_aliases_and_operators_are_unique():
    names = [*OPS, *ops.ALIASES, *ops.INFIX]
    assert len(names) == len(set(names))
    assert {ops.ALIASES[name] for name in ("min", "max", "interpolate")} <= set(OPS)
    tags = [op.tag for op in OPS.values() if op.same_as is None]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_jax_float32_agrees_with_numpy_float64(op):
    pairs = np.array(list(itertools.product(POINTS, POINTS)), np.float32).astype(np.float64)
    weights = {"a": pairs[:200, :1], "b": pairs[200:, 0]}
    gradient = {"a": pairs[:200, 1:], "b": pairs[200:, 1]}
    program = program_with(op)
    expected_update, _ = step(program, (), weights, gradient, xp=np)
    weights, gradient = jax.tree.map(jnp.float32, (weights, gradient))
    update, _ = step(program, (), weights, gradient)
    tolerance = {"exp10": 2e-5, "power": 2e-5, "tan": 1e-4}.get(op.name, 5e-6)
    for key, expected in expected_update.items():
        is_too_large = np.abs(expected) > FLOAT32_LIMITS.max
        expected = np.where(is_too_large, np.copysign(np.inf, expected), expected)
        expected = np.where(np.abs(expected) < FLOAT32_LIMITS.tiny, 0.0, expected)
        np.testing.assert_allclose(update[key], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_dividing_by_zero_gives_zero(xp):
    x = xp.asarray([-2.0, 0.0, 3.0])
    for update in ("w / g", "reciprocal(g)", "power(g, -1.0)", "power(g, -0.5)", "w / (w - w)"):
        program = parse(f"def train(w, g):\n  update = {update}\n  return update")
        result, _ = step(program, (), x, xp.zeros(3), xp=xp)
        assert not np.any(result), update


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_the_cosine_with_a_zero_vector_is_zero(xp):
    program = parse("def train(w, g):\n  c = cosine_sim(w, g)\n  return c")
    assert not np.any(step(program, (), xp.ones(3), xp.zeros(3), xp=xp)[0])
    assert not np.any(step(program, (), xp.zeros(3), xp.zeros(3), xp=xp)[0])


EXPRESSIONS = {
    "norm(w)": {"a": 30.0**0.5, "b": 61.0**0.5},
    "global_norm(w)": {"a": 91.0**0.5, "b": 91.0**0.5},
    "dot(w, g)": {"a": -6.5, "b": -6.5},
    "dot(w, 2.0)": {"a": 42.0, "b": 42.0},
    "cosine_sim(w, w)": {"a": 1.0, "b": 1.0},
    "norm(row_mean(w))": {"a": (1.5**2 + 3.5**2) ** 0.5, "b": 61.0**0.5},
    "global_norm(col_mean(w))": {"a": (13 + 5.5**2) ** 0.5, "b": (13 + 5.5**2) ** 0.5},
    "global_norm(norm(w))": {"a": 91.0**0.5, "b": 91.0**0.5},
    "norm(-3.0)": {"a": 3.0, "b": 3.0},
    "rms(w)": {"a": 7.5**0.5, "b": 30.5**0.5},
    "matrix_mean(w)": {"a": 2.5, "b": 5.5},
    "row_mean(w)": {"a": [[1.5, 1.5], [3.5, 3.5]], "b": [5.0, 6.0]},
    "col_mean(w)": {"a": [[2.0, 3.0], [2.0, 3.0]], "b": 5.5},
    "row_mean(col_mean(w))": {"a": 2.5, "b": 5.5},
    "clip(w, 91.0)": MODEL,
    "global_norm(clip(w, 2.0))": {"a": 2.0, "b": 2.0},
    "rms(clip_by_rms(w, 1.0))": {"a": 1.0, "b": 1.0},
    "clip_by_rms(w, 9.0)": MODEL,
    "interp(w, g, 0.25)": {"a": [[0.875, 1.25], [2.25, 3.5]], "b": [4.0, 3.75]},
    "mean(w)": {"a": 2.5, "b": 5.5},
    "clamp(w, 2.0, 3.5)": {"a": [[2.0, 2.0], [3.0, 3.5]], "b": [3.5, 3.5]},
    "mod(w, g)": {"a": [[0.0, 0.0], [0.0, 0.0]], "b": [0.0, 0.0]},
    "mod(w, 2.0)": {"a": [[1.0, 0.0], [1.0, 0.0]], "b": [1.0, 0.0]},
    "mod(g, w)": {"a": [[0.5, 1.0], [0.0, 2.0]], "b": [1.0, 3.0]},
    "greater(w, 2.0)": {"a": [[0.0, 0.0], [1.0, 1.0]], "b": [1.0, 1.0]},
    "equal(w, 2.0)": {"a": [[0.0, 1.0], [0.0, 0.0]], "b": [0.0, 0.0]},
    "where(g, w, 7.0)": {"a": [[1.0, 2.0], [7.0, 4.0]], "b": [5.0, 6.0]},
    "ema(w, g, 0.25)": {"a": [[0.875, 1.25], [2.25, 3.5]], "b": [4.0, 3.75]},
}
"""For each expression its value for the weights `MODEL` and the gradient `GRADIENT`."""


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_have_the_expected_values_in_numpy_and_jax(expression, xp):
    program = parse(f"def train(w, g):\n  update = {expression}\n  return update")
    weights, gradient = jax.tree.map(xp.asarray, (MODEL, GRADIENT))
    update, _ = step(program, (), weights, gradient, xp=xp)
    for name, expected in EXPRESSIONS[expression].items():
        expected = np.broadcast_to(expected, MODEL[name].shape)
        np.testing.assert_allclose(update[name], expected, rtol=1e-6, err_msg=name)


RESULT_KINDS = {
    **dict.fromkeys(("norm", "rms", "mean"), Kind.LEAF),
    **dict.fromkeys(("global_norm", "dot", "cosine_sim"), Kind.SCALAR),
    **dict.fromkeys(("get_pi", "get_e", "get_eps"), Kind.SCALAR),
    **{"row_mean": Kind.ROW, "col_mean": Kind.COL, "matrix_mean": Kind.MATRIX},
}
"""Kind of the result for tensor operands, by op; the other ops return tensors."""


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_ops_on_tensors_have_the_expected_result_kind(op):
    kinds = tuple(
        Kind.TENSOR if operand_type == "x" else Kind.SCALAR for operand_type in op.operands
    )
    expected = RESULT_KINDS.get(op.name, Kind.TENSOR)
    assert op.result_kind(kinds) == expected
    assert check(program_with(op))["update"] == expected


ELEMENTWISE = {name: op for name, op in OPS.items() if op.reduction is None}


@pytest.mark.parametrize("op", ELEMENTWISE.values(), ids=list(ELEMENTWISE))
def test_elementwise_results_have_the_shape_of_their_kind(op):
    possible_kinds = [
        list(Kind) if operand_type == "x" else [Kind.SCALAR] for operand_type in op.operands
    ]
    for kinds in itertools.product(*possible_kinds):
        for shape in [(2, 3, 4), (5,), ()]:
            args = [np.zeros(kind_shape(kind, shape)) for kind in kinds]
            with np.errstate(all="ignore"):
                result = op.meaning(np, *args)
            expected = kind_shape(op.result_kind(kinds), shape)
            assert np.broadcast_shapes(np.shape(result), expected) == expected


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.commutative], ids=lambda op: op.name
)
def test_swapping_the_operands_of_a_commutative_op_leaves_the_result_exactly_equal(op):
    rng = np.random.default_rng(0)
    weights, gradient = jnp.asarray(rng.normal(size=(2, 50)), jnp.float32)
    program, swapped = (
        Program((Parameter("w"), Parameter("g")), (Statement("u", op.name, args),), ("u",))
        for args in (("w", "g"), ("g", "w"))
    )
    update, _ = step(program, (), weights, gradient)
    swapped_update, _ = step(swapped, (), weights, gradient)
    np.testing.assert_array_equal(update, swapped_update)


def test_kinds_form_a_lattice():
    for a, b, c in itertools.product(Kind, repeat=3):
        assert join(a, b) == join(b, a)
        assert meet(a, b) == meet(b, a)
        assert join(a, join(b, c)) == join(join(a, b), c)
        assert meet(a, meet(b, c)) == meet(meet(a, b), c)
        assert join(a, meet(a, b)) == a == meet(a, join(a, b))
        assert fits(a, b) == (meet(a, b) == a)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_the_join_of_kinds_has_the_size_of_their_broadcast_shape(shape):
    for first, second in itertools.product(Kind, repeat=2):
        broadcast = np.broadcast_shapes(kind_shape(first, shape), kind_shape(second, shape))
        assert np.prod(broadcast) == np.prod(kind_shape(join(first, second), shape))
    assert kind_shape(Kind.TENSOR, shape) == matrix_view(shape)
