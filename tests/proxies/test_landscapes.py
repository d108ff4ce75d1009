"""Tests of the minima, curvatures and gradients of the landscapes, which are tasks without data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from tests.proxies.compiling import quick_jit

KEY = jax.random.key(0)


def _height_function(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return the landscape as a function from weights to the height, which is the loss."""
    task = proxies.load(name)
    return lambda weights: task.evaluate({"w": weights}, task.data, (), KEY)


def _initial_weights(name: str) -> jax.Array:
    (weights,) = jax.tree.leaves(proxies.load(name).init(KEY))
    return weights


def _gradient(name: str, weights: jax.Array) -> np.ndarray:
    return np.asarray(quick_jit(jax.grad(_height_function(name)))(weights))


def _hessian(name: str, weight_count: int) -> np.ndarray:
    """Return the Hessian matrix of a landscape at weights of zero."""
    return np.asarray(quick_jit(jax.hessian(_height_function(name)))(jnp.zeros(weight_count)))


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
def test_the_height_is_nearly_zero_at_the_minimum_and_larger_elsewhere(
    name: str, minimum: np.ndarray
) -> None:
    minimum = jnp.asarray(minimum, jnp.float32)
    height = quick_jit(_height_function(name))
    assert 0 < height(minimum) < 2e-9
    assert np.all(_gradient(name, minimum) == 0)
    offsets = np.random.default_rng(0).standard_normal((20, minimum.size)).astype(np.float32)
    assert all(height(minimum + offset) > 1e-8 for offset in offsets)


def test_the_valley_has_the_condition_number_10_000_on_rotated_axes() -> None:
    hessian = _hessian("valley", 16)
    curvatures = np.linalg.eigvalsh(hessian)
    assert curvatures[-1] / curvatures[0] == pytest.approx(1e4, rel=1e-2)
    # The curvatures along the weights are similar, so a step size for each weight does not help.
    assert np.diag(hessian).max() < 3 * np.diag(hessian).min()


def test_the_saddle_has_curvatures_of_both_signs_and_starts_near_its_ridge() -> None:
    curvatures = np.linalg.eigvalsh(_hessian("saddle", 2))
    np.testing.assert_allclose(curvatures, [-1, 1], rtol=1e-6)
    slope_along_ridge, slope_off_ridge = np.abs(_gradient("saddle", _initial_weights("saddle")))
    assert slope_off_ridge < 0.002 * slope_along_ridge


def test_the_gradients_of_the_chains_vanish_and_explode() -> None:
    assert np.abs(_gradient("chain-vanishing", _initial_weights("chain-vanishing"))).max() < 0.01
    assert np.abs(_gradient("chain-exploding", _initial_weights("chain-exploding"))).min() > 1e4


def test_the_curvature_landscapes_have_the_slopes_and_curvatures_in_their_descriptions() -> None:
    initial_slopes, curvatures = {}, {}
    for name in ("curvature-flat", "curvature-narrow", "curvature-slope"):
        initial_slopes[name] = float(np.abs(_gradient(name, _initial_weights(name))).max())
        curvatures[name] = float(_hessian(name, 1).item())
    assert initial_slopes["curvature-flat"] < 0.1
    assert curvatures["curvature-flat"] < 0.1
    assert initial_slopes["curvature-narrow"] > 5
    assert curvatures["curvature-narrow"] > 100
    assert initial_slopes["curvature-slope"] > 5
    assert curvatures["curvature-slope"] < curvatures["curvature-narrow"] / 50


def test_adam_diverges_on_the_convex_online_problem_and_amsgrad_does_not() -> None:
    task = proxies.load("reddi")
    initial_loss = float(task.evaluate(task.init(KEY), (), (), KEY))
    for seed in range(3):
        key = jax.random.key(seed)
        adam_loss = float(proxies.train(task, optax.adam(3e-3), key=key).loss)
        amsgrad_loss = float(proxies.train(task, optax.amsgrad(3e-3), key=key).loss)
        assert amsgrad_loss < 0.8 * initial_loss
        assert adam_loss > 2.0 * initial_loss
