"""Landscapes for diagnosis: formulas of a few weights, with exact gradients and nothing random.

The one exception is Reddi's problem, which is online: each step shows one of two slopes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from proxies.layers import Weights
from proxies.registry import register
from proxies.task import Split, Task


def _landscape(
    name: str,
    split: Split,
    description: str,
    height: Callable[[jax.Array], jax.Array],
    start: np.ndarray,
    *,
    steps: int = 500,
) -> Task:
    """The task of going down `height`, from `[n]` weights to a number, from `start`."""

    def init(key: jax.Array) -> Weights:
        del key
        return {"w": jnp.asarray(start, jnp.float32)}

    def loss(params: Weights, batch: tuple[()], key: jax.Array) -> jax.Array:
        del batch, key
        return height(params["w"])

    def evaluate(
        params: Weights, data: tuple[()], partition: tuple[()], key: jax.Array
    ) -> jax.Array:
        del partition
        return loss(params, data, key)

    return Task(
        name=name,
        split=split,
        description=description,
        metric="height above the minimum",
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
    """A quadratic of the given condition number whose axes are not the weights' own.

    The curvatures are 1 down to `1 / condition`, evenly in the logarithm; a Householder reflection
    turns the axes, so that no step size per weight makes up for them.
    """
    curvatures = np.logspace(0, -np.log10(condition), size)
    normal = np.arange(1, size + 1) / np.linalg.norm(np.arange(1, size + 1))
    turn = np.eye(size) - 2.0 * np.outer(normal, normal)
    matrix = (turn * curvatures) @ turn

    def height(w: jax.Array) -> jax.Array:
        return 0.5 * w @ jnp.asarray(matrix, jnp.float32) @ w

    description = f"quadratic of condition number {condition:g}, {size} turned axes"
    return _landscape(name, split, description, height, turn @ np.ones(size))


@register("rosenbrock", "diagnostic")
def rosenbrock(name: str, split: Split) -> Task:
    """The curved valley `(1 - x)^2 + 100 (y - x^2)^2`, from (-1.2, 1) (Rosenbrock 1960)."""

    def height(w: jax.Array) -> jax.Array:
        x, y = w
        return jnp.square(1.0 - x) + 100.0 * jnp.square(y - x**2)

    start = np.array([-1.2, 1.0])
    return _landscape(name, split, "Rosenbrock's curved valley", height, start, steps=2000)


@register("plateau", "diagnostic")
def plateau(name: str, split: Split) -> Task:
    """The sum of `x^2 / (1 + x^2)` from x = 10 and x = -4: flat, until the hole is near."""

    def height(w: jax.Array) -> jax.Array:
        squared = jnp.square(w)
        return jnp.sum(squared / (1.0 + squared))

    return _landscape(
        name, split, "flat plateau around a hole", height, np.array([10.0, -4.0]), steps=1000
    )


@register("saddle", "diagnostic")
def saddle(name: str, split: Split) -> Task:
    """The saddle `x^2 / 2 + (y^2 - 1)^2 / 4`, from (1, 0.001), where `y` hardly slopes."""

    def height(w: jax.Array) -> jax.Array:
        x, y = w
        return 0.5 * jnp.square(x) + 0.25 * jnp.square(y**2 - 1.0)

    return _landscape(name, split, "saddle, met almost on its ridge", height, np.array([1.0, 1e-3]))


def _chain(name: str, split: Split, description: str, *, depth: int, weight: float) -> Task:
    """The scalar chain `(w_1 w_2 ... w_n - 1)^2 / 2` with all weights equal at first."""

    def height(w: jax.Array) -> jax.Array:
        return 0.5 * jnp.square(jnp.prod(w) - 1.0)

    # A spread of 1% keeps the weights from moving as one.
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
    """One case of the introduction of AdaBelief (Zhuang et al. 2020, figure 1).

    `slope (sqrt(x^2 + width^2) - width)`: a bowl of curvature `slope / width` within `width` of
    the minimum, and straight walls of gradient `slope` outside.
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
def reddi(name: str, split: Split, *, rare: int = 101, wall: float = 100.0) -> Task:
    """The convex problem on which Adam goes the wrong way (Reddi et al. 2018, section 3).

    Each step's loss is `1010 x` with probability 1/101 and `-10 x` otherwise, on -1 <= x <= 1. In
    the mean that is `10/101 x`, so -1 is best; a rule that divides the rare large gradient by its
    own size goes to +1. Instead of a projection, a parabola outside keeps `x` near the interval.
    """
    high, low = 10.0 * rare, -10.0
    mean = (high + (rare - 1) * low) / rare

    def outside(x: jax.Array) -> jax.Array:
        return 0.5 * wall * jnp.square(jnp.maximum(jnp.abs(x) - 1.0, 0.0))

    def init(key: jax.Array) -> Weights:
        del key
        return {"x": jnp.zeros(1)}

    def sample(partition: tuple[()], key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.randint(key, (), 0, rare) == 0, high, low)

    def loss(params: Weights, slope: jax.Array, key: jax.Array) -> jax.Array:
        del key
        x = params["x"][0]
        return 2.0 * jnp.abs(slope) + slope * x + outside(x)  # shifted, so that it is positive

    def evaluate(
        params: Weights, data: tuple[()], partition: tuple[()], key: jax.Array
    ) -> jax.Array:
        del data, partition, key
        x = params["x"][0]
        return mean * (jnp.clip(x, -1.0, 1.0) + 1.0) + outside(x) + 1e-3

    return Task(
        name=name,
        split=split,
        description="convex online problem on which Adam fails and AMSGrad does not",
        metric="mean loss above the minimum, plus 0.001",
        steps=4000,
        data=(),
        init=init,
        partition=lambda data, key: (),
        sample=sample,
        batch=lambda data, sample: sample,
        loss=loss,
        evaluate=evaluate,
    )
