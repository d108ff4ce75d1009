"""Learning-rate schedules by name, built from optax's, with a peak of 1.

JAX and optax are imported on first use: reading a configuration needs only the names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import jax

Schedule: TypeAlias = Callable[["jax.Array"], "jax.Array"]
"""A function from the step, counted from 0, to the learning rate relative to its peak."""

_WARM_UP = 0.1  # fraction of the steps


def cosine(steps: int) -> Schedule:
    """Decay along half a cosine from 1 at step 0 to 0 at `steps` (Loshchilov and Hutter 2016)."""
    import optax

    schedule: Schedule = optax.cosine_decay_schedule(1.0, steps)
    return schedule


def linear(steps: int) -> Schedule:
    """Decay linearly from 1 at step 0 to 0 at `steps`."""
    import optax

    schedule: Schedule = optax.linear_schedule(1.0, 0.0, steps)
    return schedule


def constant(steps: int) -> Schedule:
    """Keep the learning rate at its peak."""
    import optax

    del steps
    schedule: Schedule = optax.constant_schedule(1.0)
    return schedule


def warm_up_cosine(steps: int) -> Schedule:
    """Rise linearly over a tenth of the steps, then decay along half a cosine."""
    import optax

    if steps == 1:
        return cosine(steps)
    warm_up_steps = max(1, round(_WARM_UP * steps))
    schedule: Schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, warm_up_steps, steps)
    return schedule


def inverse_sqrt(steps: int) -> Schedule:
    """Rise over a tenth of the steps, then decay as 1 / sqrt(step) (Vaswani et al. 2017)."""
    import jax.numpy as jnp
    import optax

    warm_up_steps = max(1, round(_WARM_UP * steps))

    def decay(step: jax.Array) -> jax.Array:
        return jnp.sqrt(warm_up_steps / jnp.maximum(step + warm_up_steps, 1.0))

    schedule: Schedule = optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, warm_up_steps), decay], [warm_up_steps]
    )
    return schedule


def cyclical(steps: int) -> Schedule:
    """Decay along half a cosine from 1 to 0 four times (Loshchilov and Hutter 2016)."""
    import optax

    quarter = max(1, steps // 4)
    parts = [cosine(quarter), cosine(quarter), cosine(quarter), cosine(max(1, steps - 3 * quarter))]
    schedule: Schedule = optax.join_schedules(parts, [quarter, 2 * quarter, 3 * quarter])
    return schedule


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "warm-up-cosine": warm_up_cosine,
    "inverse-sqrt": inverse_sqrt,
    "cyclical": cyclical,
}
"""Constructors of schedules by name; each takes the number of steps."""


def rates_of(schedule: Schedule, steps: int, budget: int | None = None) -> jax.Array:
    """Return the schedule's value at each step.

    Args:
        schedule: a function that accepts traced arrays, as optax's schedules do.
        steps: number of steps to train.
        budget: length of the result, at least `steps`; None means `steps`.

    Returns:
        `[budget]` float32; zero from index `steps` on.
    """
    import jax
    import jax.numpy as jnp

    values = jnp.broadcast_to(jax.vmap(schedule)(jnp.arange(steps)), (steps,))
    padded: jax.Array = jnp.pad(values.astype(jnp.float32), (0, (budget or steps) - steps))
    return padded


@cache
def relative_rates(name: str, steps: int, budget: int) -> NDArray[np.float32]:
    """Return the values of the schedule `name` at each step, as a read-only host array.

    >>> relative_rates("linear", 4, 5)
    array([1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32)

    Args:
        name: a key of `SCHEDULES`.
        steps: number of steps to train.
        budget: length of the result, at least `steps`.

    Returns:
        `[budget]` float32, learning rates relative to their peak; zero from index `steps` on.
    """
    return np.asarray(rates_of(SCHEDULES[name](steps), steps, budget))
