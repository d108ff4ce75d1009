"""Tests of the op table: what each op computes, and the kinds of operands and results."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primitives import OPS, Kind, Parameter, Program, Statement, check, ops, parse, step
from primitives.kinds import KINDS, fits, join, kind_shape, matrix_view, meet

PAPER = (
    "abs cos sin tan arcsin arccos arctan exp log sinh cosh tanh arcsinh arccosh arctanh sign "
    "exp2 exp10 expm1 log10 log2 log1p square sqrt cube cbrt reciprocal "
    "add subtract multiply divide power maximum minimum norm global_norm dot cosine_sim clip "
    "interp get_pi get_e get_eps"
)
POINTS = [-80.0, -3.0, -1.0, -0.99, -0.5, -1e-3, -1e-8, 0.0, 1e-8, 1e-3]
POINTS += [0.3, 0.5, 0.99, 1.0, 1.5, 2.0, 3.0, 10.0, 30.0, 88.0]
FLOAT32 = np.finfo(np.float32)
MODEL = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([5.0, 6.0])}
GRADS = {"a": np.array([[0.5, -1.0], [0.0, 2.0]]), "b": np.array([1.0, -3.0])}


def program_of(op):
    """Return a program whose update is `op` applied to w, g and constants."""
    tensors = iter(["w", "g", "w"])
    args = tuple(next(tensors) if operand == "x" else 0.75 for operand in op.operands)
    return Program(
        (Parameter("w"), Parameter("g")), (Statement("update", op.name, args),), ("update",)
    )


def test_the_paper_set_is_the_43_ops_of_the_paper():
    assert " ".join(ops.names("paper")) == PAPER
    assert len(ops.names("paper")) == 43
    assert set(ops.names("paper")) < set(ops.names("full")) == set(OPS)


def test_names_aliases_and_operators_are_unique():
    written = [*OPS, *ops.ALIASES, *ops.INFIX]
    assert len(written) == len(set(written))
    assert {ops.ALIASES[name] for name in ("min", "max", "interpolate")} <= set(OPS)
    tags = [op.tag for op in OPS.values() if op.same_as is None]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_jax_float32_agrees_with_numpy_float64(op):
    pairs = np.array(list(itertools.product(POINTS, POINTS)), np.float32).astype(np.float64)
    w, g = {"a": pairs[:200, :1], "b": pairs[200:, 0]}, {"a": pairs[:200, 1:], "b": pairs[200:, 1]}
    program = program_of(op)
    actual, _ = step(program, (), jax.tree.map(jnp.float32, w), jax.tree.map(jnp.float32, g))
    expected, _ = step(program, (), w, g, xp=np)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        b = np.where(np.abs(b) > FLOAT32.max, np.copysign(np.inf, b), b)
        b = np.where(np.abs(b) < FLOAT32.tiny, 0.0, b)
        tolerance = {"exp10": 2e-5, "power": 2e-5, "tan": 1e-4}.get(op.name, 5e-6)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_division_by_zero_gives_zero(xp):
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


REDUCTIONS = {
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


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("expression", REDUCTIONS)
def test_reductions_act_on_a_values_own_numbers(expression, xp):
    program = parse(f"def train(w, g):\n  update = {expression}\n  return update")
    w, g = jax.tree.map(xp.asarray, MODEL), jax.tree.map(xp.asarray, GRADS)
    result, _ = step(program, (), w, g, xp=xp)
    for name, expected in REDUCTIONS[expression].items():
        expected = np.broadcast_to(expected, MODEL[name].shape)
        np.testing.assert_allclose(result[name], expected, rtol=1e-6, err_msg=name)


T, R, C, M, L, S = (KINDS[k] for k in ("tensor", "row", "col", "matrix", "leaf", "scalar"))
RESULTS = {"norm": L, "rms": L, "mean": L, "global_norm": S, "dot": S, "cosine_sim": S} | {
    "row_mean": R, "col_mean": C, "matrix_mean": M, "get_pi": S, "get_e": S, "get_eps": S
}  # fmt: skip


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_ops_on_tensors_have_the_expected_result_kind(op):
    kinds = tuple(T if operand == "x" else S for operand in op.operands)
    assert op.result_kind(kinds) == RESULTS.get(op.name, T)
    assert check(program_of(op))["update"] == RESULTS.get(op.name, T)


ELEMENTWISE = {name: op for name, op in OPS.items() if op.reduction is None}


@pytest.mark.parametrize("op", ELEMENTWISE.values(), ids=list(ELEMENTWISE))
def test_elementwise_results_have_the_shape_of_their_kind(op):
    choices = [list(Kind) if operand == "x" else [S] for operand in op.operands]
    for kinds in itertools.product(*choices):
        for shape in [(2, 3, 4), (5,), ()]:
            args = [np.zeros(kind_shape(kind, shape)) for kind in kinds]
            with np.errstate(all="ignore"):
                values = op.meaning(np, *args)
            expected = kind_shape(op.result_kind(kinds), shape)
            assert np.broadcast_shapes(np.shape(values), expected) == expected


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.commutative], ids=lambda op: op.name
)
def test_commutative_ops_commute_exactly(op):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50)).astype(np.float32)
    forth, back = (
        Program((Parameter("w"), Parameter("g")), (Statement("u", op.name, args),), ("u",))
        for args in (("w", "g"), ("g", "w"))
    )
    a, _ = step(forth, (), jnp.asarray(x), jnp.asarray(y))
    b, _ = step(back, (), jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_array_equal(a, b)


def test_kinds_form_a_lattice():
    for a, b, c in itertools.product(Kind, repeat=3):
        assert join(a, b) == join(b, a)
        assert meet(a, b) == meet(b, a)
        assert join(a, join(b, c)) == join(join(a, b), c)
        assert meet(a, meet(b, c)) == meet(meet(a, b), c)
        assert join(a, meet(a, b)) == a == meet(a, join(a, b))
        assert fits(a, b) == (meet(a, b) == a)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (2, 2, 3, 4)])
def test_join_agrees_with_broadcasting(shape):
    for a, b in itertools.product(Kind, repeat=2):
        both = np.broadcast_shapes(kind_shape(a, shape), kind_shape(b, shape))
        assert np.prod(both) == np.prod(kind_shape(join(a, b), shape))
    assert kind_shape(T, shape) == matrix_view(shape)
