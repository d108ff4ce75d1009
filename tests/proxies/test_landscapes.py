"""Tests of the landscapes: their minima, curvatures and gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from tests.proxies.compiling import quick_jit

KEY = jax.random.key(0)


def _height(name: str) -> Callable[[jax.Array], jax.Array]:
    task = proxies.load(name)
    return lambda weights: task.evaluate({"w": weights}, task.data, (), KEY)


def _start(name: str) -> jax.Array:
    (weights,) = jax.tree.leaves(proxies.load(name).init(KEY))
    return weights


def _slope(name: str, weights: jax.Array) -> np.ndarray:
    return np.asarray(quick_jit(jax.grad(_height(name)))(weights))


def _hessian(name: str, size: int) -> np.ndarray:
    return np.asarray(quick_jit(jax.hessian(_height(name)))(jnp.zeros(size)))


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
def test_the_height_is_zero_at_the_minimum_and_larger_elsewhere(
    name: str, minimum: np.ndarray
) -> None:
    minimum_weights = jnp.asarray(minimum, jnp.float32)
    height = quick_jit(_height(name))
    assert 0 < height(minimum_weights) < 2e-9
    assert np.all(_slope(name, minimum_weights) == 0)
    offsets = (
        np.random.default_rng(0).standard_normal((20, minimum_weights.size)).astype(np.float32)
    )
    assert all(height(minimum_weights + step) > 1e-8 for step in offsets)


def test_the_valley_has_its_condition_number_on_rotated_axes() -> None:
    hessian = _hessian("valley", 16)
    curvatures = np.linalg.eigvalsh(hessian)
    assert curvatures[-1] / curvatures[0] == pytest.approx(1e4, rel=1e-2)
    # The curvatures along the weights are similar, so a step size for each weight does not help.
    assert np.diag(hessian).max() < 3 * np.diag(hessian).min()


def test_the_saddle_has_curvatures_of_both_signs_and_starts_near_its_ridge() -> None:
    lower, upper = np.linalg.eigvalsh(_hessian("saddle", 2))
    assert lower == pytest.approx(-1)
    assert upper == pytest.approx(1)
    across, along = np.abs(_slope("saddle", _start("saddle")))
    assert along < 0.002 * across


def test_the_gradients_of_the_chains_vanish_and_explode() -> None:
    assert np.abs(_slope("chain-vanishing", _start("chain-vanishing"))).max() < 0.01
    assert np.abs(_slope("chain-exploding", _start("chain-exploding"))).min() > 1e4


def test_the_curvature_landscapes_have_the_slopes_and_curvatures_in_their_descriptions() -> None:
    cases = {}
    for name in ("curvature-flat", "curvature-narrow", "curvature-slope"):
        slope = float(np.abs(_slope(name, _start(name))).max())
        cases[name] = slope, float(_hessian(name, 1).item())
    flat, narrow, slope = cases.values()
    assert flat[0] < 0.1
    assert flat[1] < 0.1
    assert narrow[0] > 5
    assert narrow[1] > 100
    assert slope[0] > 5
    assert slope[1] < narrow[1] / 50


def test_adam_diverges_on_the_convex_online_problem_and_amsgrad_does_not() -> None:
    task = proxies.load("reddi")
    start = float(task.evaluate(task.init(KEY), (), (), KEY))
    for seed in range(3):
        key = jax.random.key(seed)
        adam, amsgrad = (
            float(proxies.train(task, rule, key=key).loss)
            for rule in (optax.adam(3e-3), optax.amsgrad(3e-3))
        )
        assert amsgrad < 0.8 * start < 2.0 * start < adam
