"""Learning-rate schedules by name, all optax's, with a peak of 1.

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
"""From a step, counted from 0, to the learning rate's shape, whose peak is 1."""

_WARM_UP = 0.1  # the share of the steps in which a warm-up rises


def cosine(steps: int) -> Schedule:
    """Half a cosine from 1 at step 0 to 0 at `steps` (Loshchilov and Hutter 2016)."""
    import optax

    schedule: Schedule = optax.cosine_decay_schedule(1.0, steps)
    return schedule


def linear(steps: int) -> Schedule:
    """A straight line from 1 at step 0 to 0 at `steps`."""
    import optax

    schedule: Schedule = optax.linear_schedule(1.0, 0.0, steps)
    return schedule


def constant(steps: int) -> Schedule:
    """1 throughout."""
    import optax

    del steps
    schedule: Schedule = optax.constant_schedule(1.0)
    return schedule


def warm_up_cosine(steps: int) -> Schedule:
    """A rise over a tenth of the steps, then half a cosine."""
    import optax

    if steps == 1:
        return cosine(steps)
    rise = max(1, round(_WARM_UP * steps))
    schedule: Schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, rise, steps)
    return schedule


def inverse_sqrt(steps: int) -> Schedule:
    """A rise over a tenth of the steps, then their inverse root (Vaswani et al. 2017)."""
    import jax.numpy as jnp
    import optax

    rise = max(1, round(_WARM_UP * steps))

    def falling(step: jax.Array) -> jax.Array:
        return jnp.sqrt(rise / jnp.maximum(step + rise, 1.0))

    schedule: Schedule = optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, rise), falling], [rise]
    )
    return schedule


def cyclical(steps: int) -> Schedule:
    """Four half cosines, each from 1 to 0 (warm restarts, Loshchilov and Hutter 2016)."""
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
"""Every schedule by name: from a number of steps to the schedule over them."""


def shape(schedule: Schedule, steps: int, budget: int | None = None) -> jax.Array:
    """The schedule's value at each step, `[budget]` float32: zero from `steps` on.

    Args:
        schedule: works on arrays, as optax's do.
        steps: how many are trained.
        budget: how many entries there are, at least `steps`; None for `steps`.
    """
    import jax
    import jax.numpy as jnp

    values = jnp.broadcast_to(jax.vmap(schedule)(jnp.arange(steps)), (steps,))
    padded: jax.Array = jnp.pad(values.astype(jnp.float32), (0, (budget or steps) - steps))
    return padded


@cache
def named_shape(name: str, steps: int, budget: int) -> NDArray[np.float32]:
    """`shape` of a schedule in `SCHEDULES`, as a read-only host array."""
    return np.asarray(shape(SCHEDULES[name](steps), steps, budget))
