"""Every exported optax file finds the bottom of a parabola and of Rosenbrock's valley."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.primitives.export.files import MOST_IN_SLOW, alias

STEPS = 10_000
RATES = 10.0 ** np.arange(-3.5, 2.1, 0.25)

BOTTOMS = jnp.array([[1.0, 2.0], [1.0, 1.0]])
STARTS = {"exponentiated_gradient": jnp.array([[0.5, 5.0], [0.9, 0.7]])}
"""Where it starts at the parabola and at Rosenbrock's function, if that matters: above zero."""

ANYWHERE = jnp.array([[-1.0, 5.0], [0.0, 0.0]])


def loss(rosenbrock, x):
    """A parabola, or Rosenbrock's function with a = 1 and b = 100."""
    parabola = jnp.sum((x - BOTTOMS[0]) ** 2)
    valley = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    return jnp.where(rosenbrock, valley, parabola)


@pytest.mark.parametrize("name", MOST_IN_SLOW)
def test_it_finds_the_bottom_at_one_of_a_few_rates(name):
    """With a rate that falls to zero, without decay (which moves the bottom)."""
    arguments = inspect.signature(alias(name)).parameters
    options = {"weight_decay": 0.0} if "weight_decay" in arguments else {}

    def distance(rosenbrock, rate):
        optimizer = alias(name)(optax.linear_schedule(rate, 0.0, STEPS), **options)

        def train_step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss, 1)(rosenbrock, x), state, x)
            return (optax.apply_updates(x, updates), state), None

        start = STARTS.get(name, ANYWHERE)[rosenbrock]
        (x, _), _ = jax.lax.scan(train_step, (start, optimizer.init(start)), length=STEPS)
        return jnp.max(jnp.abs(x - BOTTOMS[rosenbrock]))

    at_each_rate = jax.vmap(distance, (None, 0))
    distances = jax.jit(jax.vmap(at_each_rate, (0, None)))(jnp.arange(2), RATES)
    parabola, valley = np.nanmin(distances, axis=1)
    assert parabola <= 1e-3
    assert valley <= 0.03
