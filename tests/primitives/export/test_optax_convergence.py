"""Exported optax files minimize a parabola and Rosenbrock's function."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.primitives.export.files import MOST_IN_SLOW, alias

STEPS = 10_000
RATES = 10.0 ** np.arange(-3.5, 2.1, 0.25)

MINIMA = jnp.array([[1.0, 2.0], [1.0, 1.0]])
"""The minimum of the parabola, and the minimum of Rosenbrock's function."""

START = jnp.array([[-1.0, 5.0], [0.0, 0.0]])
POSITIVE_STARTS = {"exponentiated_gradient": jnp.array([[0.5, 5.0], [0.9, 0.7]])}
"""Starts for programs that never change the sign of a weight."""


def loss(is_rosenbrock, x):
    """Return the value of a parabola, or of Rosenbrock's function with a = 1 and b = 100."""
    parabola = jnp.sum((x - MINIMA[0]) ** 2)
    rosenbrock = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    return jnp.where(is_rosenbrock, rosenbrock, parabola)


@pytest.mark.parametrize("name", MOST_IN_SLOW)
def test_an_exported_optimizer_finds_both_minima_with_some_learning_rate(name):
    """The learning rate decays to zero. There is no weight decay, which would move the minimum."""
    arguments = inspect.signature(alias(name)).parameters
    options = {"weight_decay": 0.0} if "weight_decay" in arguments else {}

    def distance(is_rosenbrock, rate):
        optimizer = alias(name)(optax.linear_schedule(rate, 0.0, STEPS), **options)

        def train_step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss, 1)(is_rosenbrock, x), state, x)
            return (optax.apply_updates(x, updates), state), None

        start = POSITIVE_STARTS.get(name, START)[is_rosenbrock]
        (x, _), _ = jax.lax.scan(train_step, (start, optimizer.init(start)), length=STEPS)
        return jnp.max(jnp.abs(x - MINIMA[is_rosenbrock]))

    at_each_rate = jax.vmap(distance, (None, 0))
    distances = jax.jit(jax.vmap(at_each_rate, (0, None)))(jnp.arange(2), RATES)
    parabola, rosenbrock = np.nanmin(distances, axis=1)
    assert parabola <= 1e-3
    assert rosenbrock <= 0.03
