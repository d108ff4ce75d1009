"""The landscapes against what is known of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies

KEY = jax.random.key(0)


def _height(name: str, weights: jax.Array) -> jax.Array:
    task = proxies.load(name)
    return task.evaluate({"w": weights}, task.data, (), KEY)


def _start(name: str) -> jax.Array:
    (weights,) = jax.tree.leaves(proxies.load(name).init(KEY))
    return weights


def _slope(name: str, weights: jax.Array) -> np.ndarray:
    return np.asarray(jax.grad(lambda w: _height(name, w))(weights))


def _curvatures(name: str, weights: jax.Array) -> np.ndarray:
    return np.linalg.eigvalsh(np.asarray(jax.hessian(lambda w: _height(name, w))(weights)))


@pytest.mark.parametrize(
    ("name", "minimum"),
    [
        ("valley", np.zeros(16)),
        ("rosenbrock", [1, 1]),
        ("plateau", [0, 0]),
        ("saddle", [0, 1]),
        ("chain-vanishing", np.ones(20)),
        ("chain-exploding", np.ones(20)),
        ("curvature-flat", [0]),
        ("curvature-narrow", [0]),
        ("curvature-slope", [0]),
    ],
)
def test_the_height_is_zero_at_the_minimum_and_only_rises_from_there(
    name: str, minimum: np.ndarray
) -> None:
    lowest = jnp.asarray(minimum, jnp.float32)
    assert _height(name, lowest) == pytest.approx(0, abs=1e-12)
    assert np.all(_slope(name, lowest) == 0)
    away = np.random.default_rng(0).standard_normal((20, lowest.size)).astype(np.float32)
    assert all(_height(name, lowest + step) > 0 for step in away)


def test_the_valley_has_its_condition_number_on_turned_axes() -> None:
    curvatures = _curvatures("valley", jnp.zeros(16))
    assert curvatures[-1] / curvatures[0] == pytest.approx(1e4, rel=1e-2)
    hessian = np.asarray(jax.hessian(lambda w: _height("valley", w))(jnp.zeros(16)))
    assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.05


def test_the_saddle_is_one_and_training_starts_almost_on_its_ridge() -> None:
    lower, upper = _curvatures("saddle", jnp.zeros(2))
    assert lower == pytest.approx(-1)
    assert upper == pytest.approx(1)
    across, along = np.abs(_slope("saddle", _start("saddle")))
    assert along < 0.002 * across


def test_the_chain_has_a_gradient_that_vanishes_or_explodes() -> None:
    assert np.abs(_slope("chain-vanishing", _start("chain-vanishing"))).max() < 0.01
    assert np.abs(_slope("chain-exploding", _start("chain-exploding"))).min() > 1e4


def test_the_three_cases_differ_in_slope_and_curvature_as_named() -> None:
    cases = {}
    for name in ("curvature-flat", "curvature-narrow", "curvature-slope"):
        slope = float(np.abs(_slope(name, _start(name))).max())
        cases[name] = slope, float(_curvatures(name, jnp.zeros(1)).max())
    flat, narrow, slope = cases.values()
    assert flat[0] < 0.1
    assert flat[1] < 0.1
    assert narrow[0] > 5
    assert narrow[1] > 100
    assert slope[0] > 5
    assert slope[1] < narrow[1] / 50


def test_on_the_convex_online_problem_adam_goes_up_and_amsgrad_down() -> None:
    task = proxies.load("reddi")
    start = float(task.evaluate(task.init(KEY), task.data, (), KEY))
    for seed in range(3):
        key = jax.random.key(seed)
        adam = proxies.train(task, optax.adam(0.01, b1=0.0, b2=0.9), key=key)
        amsgrad = proxies.train(task, optax.amsgrad(0.5, b1=0.0, b2=0.9), key=key)
        assert float(amsgrad.loss) < 0.5 * start < 1.5 * start < float(adam.loss)
