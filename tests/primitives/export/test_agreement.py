"""Exported files agree with the optimizers of optax and PyTorch, and with the interpreter.

Whole trajectories are compared: each optimizer keeps its own state and its own weights.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from primitives import initial_state, step, zoo
from tests.primitives.export.files import MOST_IN_SLOW, alias, optimizer_class

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEPS = 100

RNG = np.random.default_rng(0)
START = {key: RNG.normal(size=shape) for key, shape in SHAPES.items()}
GRADS = {key: RNG.normal(size=(STEPS, *shape)) for key, shape in SHAPES.items()}


def in_float32(tree):
    return jax.tree.map(np.float32, tree)


def in_optax(optimizer, weights, grads):
    """Return the weights after each step."""

    def train_step(carry, g):
        weights, state = carry
        updates, state = optimizer.update(g, state, weights)
        weights = optax.apply_updates(weights, updates)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, grads):
        return jax.lax.scan(train_step, (weights, optimizer.init(weights)), grads)[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), grads))


def in_torch(make_optimizer, weights, grads):
    """Return the weights after each step."""
    params = {key: torch.tensor(x) for key, x in weights.items()}
    optimizer, trajectory = make_optimizer(params.values()), []
    for number in range(STEPS):
        for key, p in params.items():
            p.grad = torch.tensor(grads[key][number])
        optimizer.step()
        trajectory.append({key: p.numpy().copy() for key, p in params.items()})
    return jax.tree.map(lambda *x: np.stack(x), *trajectory)


@cache
def in_reference(name):
    """Return the weights after each step of the reference interpreter, in float32."""
    program, weights, grads = zoo.load(name), in_float32(START), in_float32(GRADS)

    def train_step(carry, inputs):
        weights, state = carry
        t, g = inputs
        update, state = step(program, state, weights, g, t=t)
        weights = jax.tree.map(lambda w, u: w - u, weights, update)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, grads):
        times = jnp.arange(1.0, STEPS + 1)
        start = (weights, initial_state(program, weights))
        return jax.lax.scan(train_step, start, (times, grads))[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), grads))


def assert_same(actual, expected, rtol, atol):
    for key in SHAPES:
        assert actual[key].dtype == expected[key].dtype
        np.testing.assert_allclose(actual[key], expected[key], rtol=rtol, atol=atol)
        assert not np.allclose(expected[key][0], expected[key][-1], rtol=1e-6)


def adafactor(**options):
    return optax.adafactor(min_dim_size_to_factor=1, eps=1e-30, clipping_threshold=1.0, **options)


KNOWN_IN_OPTAX = {
    "adam": (lambda: optax.adam(1e-3), {}),
    "adamw": (lambda: optax.adamw(1e-3, weight_decay=0.01), {}),
    "momentum": (lambda: optax.sgd(0.1, momentum=0.9), {"learning_rate": 0.1}),
    "nesterov": (lambda: optax.sgd(0.1, momentum=0.9, nesterov=True), {"learning_rate": 0.1}),
    "rmsprop": (lambda: optax.rmsprop(1e-3, decay=0.9, eps=1e-8), {}),
    "adagrad": (lambda: optax.adagrad(0.01, 0.1, eps=1e-7), {}),
    "adadelta": (lambda: optax.adadelta(1.0, rho=0.9, eps=1e-6), {}),
    "amsgrad": (lambda: optax.amsgrad(1e-3), {}),
    "adafactor_external": (
        lambda: adafactor(learning_rate=1e-3, multiply_by_parameter_scale=False),
        {},
    ),
    "lion": (lambda: optax.lion(1e-4, 0.9, 0.99, weight_decay=0.1), {}),
}
"""Optax's optimizer for each program, and the non-default arguments of the exported optimizer."""

TOLERANCES = {"adafactor_external": 1e-6}
"""Optax computes the decay 1 - t^-0.8 in float32, even for float64 weights."""

KNOWN_IN_TORCH = {
    "adam": (lambda p: torch.optim.Adam(p, 1e-3), {}),
    "adamw": (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01), {}),
    "momentum": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), {"lr": 0.1}),
    "nesterov": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), {"lr": 0.1}),
    "adadelta": (lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6), {}),
    "adam_l2": (lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.01), {}),
}
"""PyTorch's optimizer for each program, and the non-default arguments of the exported optimizer.

Optimizers whose formula in PyTorch differs from the formula in optax and the zoo are omitted.
"""


@pytest.mark.parametrize("name", KNOWN_IN_OPTAX)
def test_exported_optax_optimizers_equal_optimizers_of_optax(name):
    known_optimizer, options = KNOWN_IN_OPTAX[name]
    tolerance = TOLERANCES.get(name, 1e-9)
    with jax.enable_x64(True):
        expected = in_optax(known_optimizer(), START, GRADS)
        actual = in_optax(alias(name)(**options), START, GRADS)
    assert_same(actual, expected, tolerance, tolerance)


@pytest.mark.parametrize("name", KNOWN_IN_OPTAX)
def test_exported_torch_optimizers_equal_optimizers_of_optax(name):
    known_optimizer, options = KNOWN_IN_OPTAX[name]
    tolerance = TOLERANCES.get(name, 1e-9)
    with jax.enable_x64(True):
        expected = in_optax(known_optimizer(), START, GRADS)
    options = {"lr" if key == "learning_rate" else key: x for key, x in options.items()}
    actual = in_torch(lambda p: optimizer_class(name)(p, **options), START, GRADS)
    assert_same(actual, expected, tolerance, tolerance)


@pytest.mark.parametrize("name", KNOWN_IN_TORCH)
def test_exported_torch_optimizers_equal_optimizers_of_pytorch(name):
    known_optimizer, options = KNOWN_IN_TORCH[name]
    expected = in_torch(known_optimizer, START, GRADS)
    actual = in_torch(lambda p: optimizer_class(name)(p, **options), START, GRADS)
    assert_same(actual, expected, 1e-9, 1e-9)


EXPORTED_EPSILON, TORCH_EPSILON = 1e-60, 1e-30
"""Negligible values of epsilon. PyTorch adds epsilon after the root, zoo and optax before it."""


@pytest.mark.parametrize(
    ("name", "known_optimizer"),
    [
        ("rmsprop", lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, eps=TORCH_EPSILON)),
        (
            "adagrad",
            lambda p: torch.optim.Adagrad(
                p, 0.01, initial_accumulator_value=0.1, eps=TORCH_EPSILON
            ),
        ),
    ],
)
def test_exported_torch_optimizers_equal_optimizers_of_pytorch_except_for_epsilon(
    name, known_optimizer
):
    actual = in_torch(lambda p: optimizer_class(name)(p, eps=EXPORTED_EPSILON), START, GRADS)
    assert_same(actual, in_torch(known_optimizer, START, GRADS), 1e-9, 1e-9)


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("name", MOST_IN_SLOW)
def test_float32_trajectories_equal_trajectories_of_the_reference_interpreter(name, target):
    weights, grads = in_float32(START), in_float32(GRADS)
    expected = in_reference(name)
    if target == "optax":
        actual = in_optax(alias(name)(), weights, grads)
    else:
        actual = in_torch(optimizer_class(name), weights, grads)
    assert_same(actual, expected, 1e-4, 1e-4)
