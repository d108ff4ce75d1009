"""Tests that exported optax optimizers minimize a parabola and Rosenbrock's function."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.primitives.export.files import REPRESENTATIVE_OR_SLOW, optax_function

STEPS = 10_000
LEARNING_RATES = 10.0 ** np.arange(-3.5, 2.1, 0.25)

PARABOLA, ROSENBROCK = 0, 1
"""Indices of the two functions."""

MINIMA = jnp.array([[1.0, 2.0], [1.0, 1.0]])
STARTS = jnp.array([[-1.0, 5.0], [0.0, 0.0]])
OTHER_STARTS = {"exponentiated_gradient": jnp.array([[0.5, 5.0], [0.9, 0.7]])}
"""Positive starts, for a program that never changes the sign of a weight."""


def loss(function, x):
    """Return the value of a parabola, or of Rosenbrock's function with a = 1 and b = 100."""
    parabola = jnp.sum((x - MINIMA[PARABOLA]) ** 2)
    rosenbrock = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    return jnp.where(function == ROSENBROCK, rosenbrock, parabola)


@pytest.mark.parametrize("name", REPRESENTATIVE_OR_SLOW)
def test_an_exported_optimizer_finds_both_minima_with_some_learning_rate(name):
    """The learning rate decays to zero, and weight decay, which would move the minimum, is off."""
    arguments = inspect.signature(optax_function(name)).parameters
    options = {"weight_decay": 0.0} if "weight_decay" in arguments else {}

    def distance_to_minimum(function, learning_rate):
        optimizer = optax_function(name)(
            optax.linear_schedule(learning_rate, 0.0, STEPS), **options
        )

        def train_step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss, 1)(function, x), state, x)
            return (optax.apply_updates(x, updates), state), None

        start = OTHER_STARTS.get(name, STARTS)[function]
        (x, _), _ = jax.lax.scan(train_step, (start, optimizer.init(start)), length=STEPS)
        return jnp.max(jnp.abs(x - MINIMA[function]))

    at_each_learning_rate = jax.vmap(distance_to_minimum, (None, 0))
    distances = jax.jit(jax.vmap(at_each_learning_rate, (0, None)))(
        jnp.array([PARABOLA, ROSENBROCK]), LEARNING_RATES
    )
    smallest = np.nanmin(distances, axis=1)
    assert smallest[PARABOLA] <= 1e-3
    assert smallest[ROSENBROCK] <= 0.03
