"""Compares exported optimizers with those of optax and PyTorch and with the interpreter.

The tests compare whole trajectories of weights; each optimizer updates its own weights and state.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from primitives import initial_state, step, zoo
from tests.primitives.export.files import REPRESENTATIVE_OR_SLOW, optax_function, optimizer_class

SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "stacked": (2, 3, 4)}
STEPS = 100

RNG = np.random.default_rng(0)
START = {key: RNG.normal(size=shape) for key, shape in SHAPES.items()}
GRADIENTS = {key: RNG.normal(size=(STEPS, *shape)) for key, shape in SHAPES.items()}


def to_float32(tree):
    return jax.tree.map(np.float32, tree)


def optax_trajectory(optimizer, weights, gradients):
    """Return the weights after each step of an optax optimizer, [steps, ...] for each array."""

    def train_step(carry, gradient):
        weights, state = carry
        updates, state = optimizer.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, gradients):
        return jax.lax.scan(train_step, (weights, optimizer.init(weights)), gradients)[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), gradients))


def torch_trajectory(make_optimizer, weights, gradients):
    """Return the weights after each step of a PyTorch optimizer, [steps, ...] for each array."""
    params = {key: torch.tensor(array) for key, array in weights.items()}
    optimizer, weights_by_step = make_optimizer(params.values()), []
    for index in range(STEPS):
        for key, param in params.items():
            param.grad = torch.tensor(gradients[key][index])
        optimizer.step()
        weights_by_step.append({key: param.numpy().copy() for key, param in params.items()})
    return jax.tree.map(lambda *arrays: np.stack(arrays), *weights_by_step)


@cache
def reference_trajectory(name):
    """Return the weights after each step of the reference interpreter, in float32."""
    program, weights, gradients = zoo.load(name), to_float32(START), to_float32(GRADIENTS)

    def train_step(carry, inputs):
        weights, state = carry
        t, gradient = inputs
        update, state = step(program, state, weights, gradient, t=t)
        weights = jax.tree.map(lambda w, u: w - u, weights, update)
        return (weights, state), weights

    @jax.jit
    def trajectory(weights, gradients):
        step_numbers = jnp.arange(1.0, STEPS + 1)
        start = (weights, initial_state(program, weights))
        return jax.lax.scan(train_step, start, (step_numbers, gradients))[1]

    return jax.tree.map(np.asarray, trajectory(jax.tree.map(jnp.asarray, weights), gradients))


def assert_close(actual, expected, rtol, atol):
    for key in SHAPES:
        assert actual[key].dtype == expected[key].dtype
        np.testing.assert_allclose(actual[key], expected[key], rtol=rtol, atol=atol)
        weights_moved = not np.allclose(expected[key][0], expected[key][-1], rtol=1e-6)
        assert weights_moved


def adafactor(**options):
    return optax.adafactor(min_dim_size_to_factor=1, eps=1e-30, clipping_threshold=1.0, **options)


OPTAX_OPTIMIZERS = {
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
"""For each program, optax's optimizer and the exported one's arguments that are not default."""

TOLERANCES = {"adafactor_external": 1e-6}
"""Optax computes the decay 1 - t^-0.8 in float32, even for float64 weights."""

TORCH_OPTIMIZERS = {
    "adam": (lambda p: torch.optim.Adam(p, 1e-3), {}),
    "adamw": (lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01), {}),
    "momentum": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), {"lr": 0.1}),
    "nesterov": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True), {"lr": 0.1}),
    "adadelta": (lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6), {}),
    "adam_l2": (lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.01), {}),
}
"""For each program, PyTorch's optimizer and the exported one's arguments that are not default.

Optimizers whose formula in PyTorch differs from the formula in optax and the zoo are omitted.
"""


@pytest.mark.parametrize("name", OPTAX_OPTIMIZERS)
def test_exported_optax_optimizers_equal_optimizers_of_optax(name):
    library_optimizer, options = OPTAX_OPTIMIZERS[name]
    tolerance = TOLERANCES.get(name, 1e-9)
    with jax.enable_x64(True):
        expected = optax_trajectory(library_optimizer(), START, GRADIENTS)
        actual = optax_trajectory(optax_function(name)(**options), START, GRADIENTS)
    assert_close(actual, expected, tolerance, tolerance)


@pytest.mark.parametrize("name", OPTAX_OPTIMIZERS)
def test_exported_torch_optimizers_equal_optimizers_of_optax(name):
    library_optimizer, options = OPTAX_OPTIMIZERS[name]
    tolerance = TOLERANCES.get(name, 1e-9)
    with jax.enable_x64(True):
        expected = optax_trajectory(library_optimizer(), START, GRADIENTS)
    options = {"lr" if key == "learning_rate" else key: x for key, x in options.items()}
    actual = torch_trajectory(lambda p: optimizer_class(name)(p, **options), START, GRADIENTS)
    assert_close(actual, expected, tolerance, tolerance)


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_exported_torch_optimizers_equal_optimizers_of_pytorch(name):
    library_optimizer, options = TORCH_OPTIMIZERS[name]
    expected = torch_trajectory(library_optimizer, START, GRADIENTS)
    actual = torch_trajectory(lambda p: optimizer_class(name)(p, **options), START, GRADIENTS)
    assert_close(actual, expected, 1e-9, 1e-9)


EXPORTED_EPSILON, TORCH_EPSILON = 1e-60, 1e-30
"""Negligible values of epsilon; PyTorch adds epsilon after the root, the zoo and optax before."""


@pytest.mark.parametrize(
    ("name", "library_optimizer"),
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
    name, library_optimizer
):
    actual = torch_trajectory(
        lambda p: optimizer_class(name)(p, eps=EXPORTED_EPSILON), START, GRADIENTS
    )
    assert_close(actual, torch_trajectory(library_optimizer, START, GRADIENTS), 1e-9, 1e-9)


@pytest.mark.parametrize("target", ["optax", "torch"])
@pytest.mark.parametrize("name", REPRESENTATIVE_OR_SLOW)
def test_float32_trajectories_equal_trajectories_of_the_reference_interpreter(name, target):
    weights, gradients = to_float32(START), to_float32(GRADIENTS)
    expected = reference_trajectory(name)
    if target == "optax":
        actual = optax_trajectory(optax_function(name)(), weights, gradients)
    else:
        actual = torch_trajectory(optimizer_class(name), weights, gradients)
    assert_close(actual, expected, 1e-4, 1e-4)
