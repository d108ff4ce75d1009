"""Diagnostic landscapes: formulas of a few weights with exact, deterministic gradients.

The exception is Reddi's problem: its gradient is random, with one of two slopes in each step.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct

from proxies.layers import Weights
from proxies.registry import register
from proxies.task import Split, Task

_SHIFT = 1e-9
"""Added to all heights, because a loss must be positive."""


def _landscape(
    name: str,
    split: Split,
    description: str,
    height: Callable[[jax.Array], jax.Array],
    start: np.ndarray,
    *,
    steps: int = 500,
) -> Task:
    """Return the task of minimising `height`, a function of `[n]` weights, from `start`."""

    def init(key: jax.Array) -> Weights:
        del key
        return {"w": jnp.asarray(start, jnp.float32)}

    def loss(params: Weights, batch: tuple[()], key: jax.Array) -> jax.Array:
        del batch, key
        return height(params["w"]) + _SHIFT

    def evaluate(
        params: Weights, data: tuple[()], partition: tuple[()], key: jax.Array
    ) -> jax.Array:
        del partition
        return loss(params, data, key)

    return Task(
        name=name,
        split=split,
        description=description,
        metric=f"height above the minimum, plus {_SHIFT:g}",
        steps=steps,
        data=(),
        init=init,
        partition=lambda data, key: (),
        sample=lambda partition, key: (),
        batch=lambda data, sample: (),
        loss=loss,
        evaluate=evaluate,
    )


@register("valley", "diagnostic")
def valley(name: str, split: Split, *, size: int = 16, condition: float = 1e4) -> Task:
    """Return a quadratic of the given condition number with rotated axes.

    The curvatures fall from 1 to `1 / condition`, evenly on a logarithmic scale. The axes are the
    columns of the orthogonal matrix DCT-II, so no step size for each weight can compensate for the
    condition number.
    """
    curvatures = jnp.asarray(np.logspace(0, -np.log10(condition), size), jnp.float32)
    axes = dct(np.eye(size), norm="ortho")  # `[weight, axis]`

    def height(w: jax.Array) -> jax.Array:
        # A sum of squares, so that rounding never makes it negative.
        return 0.5 * jnp.sum(curvatures * jnp.square(w @ jnp.asarray(axes, jnp.float32)))

    description = f"quadratic of condition number {condition:g}, {size} rotated axes"
    return _landscape(name, split, description, height, axes @ np.ones(size))


@register("rosenbrock", "diagnostic")
def rosenbrock(name: str, split: Split) -> Task:
    """Return the curved valley `(1 - x)^2 + 100 (y - x^2)^2` from (-1.2, 1) (Rosenbrock 1960)."""

    def height(w: jax.Array) -> jax.Array:
        x, y = w
        return jnp.square(1.0 - x) + 100.0 * jnp.square(y - x**2)

    start = np.array([-1.2, 1.0])
    return _landscape(name, split, "Rosenbrock's curved valley", height, start, steps=2000)


@register("plateau", "diagnostic")
def plateau(name: str, split: Split) -> Task:
    """Return the sum of `x^2 / (1 + x^2)` from (10, -4), which is flat far from the minimum."""

    def height(w: jax.Array) -> jax.Array:
        squared = jnp.square(w)
        return jnp.sum(squared / (1.0 + squared))

    return _landscape(
        name, split, "flat plateau around a hole", height, np.array([10.0, -4.0]), steps=1000
    )


@register("saddle", "diagnostic")
def saddle(name: str, split: Split) -> Task:
    """Return the saddle `x^2 / 2 + (y^2 - 1)^2 / 4` from (1, 0.001), almost on the ridge."""

    def height(w: jax.Array) -> jax.Array:
        x, y = w
        return 0.5 * jnp.square(x) + 0.25 * jnp.square(y**2 - 1.0)

    return _landscape(
        name,
        split,
        "saddle point, approached almost along its ridge",
        height,
        np.array([1.0, 1e-3]),
    )


def _chain(name: str, split: Split, description: str, *, depth: int, weight: float) -> Task:
    """Return the scalar chain `(w_1 w_2 ... w_n - 1)^2 / 2` from almost equal weights."""

    def height(w: jax.Array) -> jax.Array:
        return 0.5 * jnp.square(jnp.prod(w) - 1.0)

    # Equal weights would stay equal, so the initial weights differ by 1%.
    start = weight * np.linspace(0.99, 1.01, depth)
    return _landscape(name, split, description, height, start)


register("chain-vanishing", "diagnostic")(
    lambda name, split, /: _chain(
        name, split, "chain of 20 weights, gradient vanishes", depth=20, weight=0.7
    )
)
register("chain-exploding", "diagnostic")(
    lambda name, split, /: _chain(
        name, split, "chain of 20 weights, gradient explodes", depth=20, weight=1.4
    )
)


def _curvature(
    name: str, split: Split, description: str, *, slope: float, width: float, start: float
) -> Task:
    """Return a case of the introduction of AdaBelief (Zhuang et al. 2020, figure 1).

    The height `slope (sqrt(x^2 + width^2) - width)` is a bowl of curvature `slope / width` within
    `width` of the minimum, and has straight walls of gradient `slope` outside.
    """

    def height(w: jax.Array) -> jax.Array:
        squared = jnp.square(w[0])
        return slope * squared / (jnp.sqrt(squared + width**2) + width)

    return _landscape(name, split, description, height, np.array([start]))


register("curvature-flat", "diagnostic")(
    partial(
        _curvature,
        description="small gradient, small curvature: a large step is right",
        slope=0.01,
        width=10.0,
        start=5.0,
    )
)
register("curvature-narrow", "diagnostic")(
    partial(
        _curvature,
        description="large gradient, large curvature: a small step is right",
        slope=10.0,
        width=0.01,
        start=0.5,
    )
)
register("curvature-slope", "diagnostic")(
    partial(
        _curvature,
        description="large gradient, small curvature: a large step is right",
        slope=10.0,
        width=1.0,
        start=20.0,
    )
)


@register("reddi", "diagnostic")
def reddi(name: str, split: Split, *, period: int = 8000, steps: int = 400_000) -> Task:
    """Return a convex online problem on which Adam diverges (Reddi et al. 2018, theorem 3).

    The loss of each step is `s x + x^2 / 2`. The slope `s` is `2 period - 1` with probability
    `1 / period`, and -1 otherwise. The mean loss is `x + x^2 / 2`, with its minimum at -1.

    Adam divides the infrequent large slope by the slope's magnitude. If `1 / (1 - beta_2)` is well
    below `period`, Adam forgets a large slope before the next one, and ends at +1, where the
    frequent loss is lowest. AMSGrad does not. The paper has linear losses on an interval;
    here the parabola replaces the projection.
    """
    high = 2.0 * period - 1.0

    def init(key: jax.Array) -> Weights:
        del key
        return {"x": jnp.zeros(1)}

    def sample(partition: tuple[()], key: jax.Array) -> jax.Array:
        is_rare = jax.random.bits(key) < jnp.uint32(2**32 // period)
        return jnp.where(is_rare, high, -1.0)

    def loss(params: Weights, slope: jax.Array, key: jax.Array) -> jax.Array:
        del key
        x = params["x"][0]
        return 0.5 * jnp.square(x + slope) + _SHIFT  # differs from `s x + x^2 / 2` by a constant

    def evaluate(
        params: Weights, data: tuple[()], partition: tuple[()], key: jax.Array
    ) -> jax.Array:
        del data, partition, key
        return 0.5 * jnp.square(params["x"][0] + 1.0) + _SHIFT

    return Task(
        name=name,
        split=split,
        description="convex online problem on which Adam fails and AMSGrad does not",
        metric=f"mean loss above the minimum, plus {_SHIFT:g}",
        steps=steps,
        data=(),
        init=init,
        partition=lambda data, key: (),
        sample=sample,
        batch=lambda data, sample: sample,
        loss=loss,
        evaluate=evaluate,
    )
