"""A quadratic bowl with a closed form for gradient descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies.layers import Weights
from proxies.registry import register
from proxies.task import Split, Task


class Bowl(NamedTuple):
    """The curvature of each weight, in the shapes of the weights."""

    matrix: NDArray[np.float32]
    vector: NDArray[np.float32]
    scalar: NDArray[np.float32]


@register("quadratic", "diagnostic")
def quadratic(name: str, split: Split, *, steps: int = 50) -> Task:
    """Return the deterministic bowl `0.5 sum(c_i w_i^2)` from `w = 1`.

    After `k` steps of gradient descent with the learning rate `a`, `w_i = (1 - a c_i)^k`. The
    weights are a 2x3 matrix, a vector of 3 and a scalar; all curvatures are between 0 and 3.
    """
    curvatures = Bowl(
        matrix=np.array([[1.0, 0.5, 0.25], [2.0, 1.5, 0.75]], np.float32),
        vector=np.array([1.0, 0.125, 3.0], np.float32),
        scalar=np.array(0.5, np.float32),
    )

    def init(key: jax.Array) -> Weights:
        del key
        return {field: jnp.ones(value.shape) for field, value in curvatures._asdict().items()}

    def loss(params: Weights, bowl: Bowl, key: jax.Array) -> jax.Array:
        del key
        terms = (c * jnp.square(params[field]) for field, c in bowl._asdict().items())
        return 0.5 * sum(map(jnp.sum, terms), start=jnp.float32(0.0))

    def evaluate(params: Weights, bowl: Bowl, partition: tuple[()], key: jax.Array) -> jax.Array:
        del partition
        return loss(params, bowl, key)

    return Task(
        name=name,
        split=split,
        description="quadratic bowl of 10 weights",
        metric="value of the bowl",
        steps=steps,
        data=curvatures,
        init=init,
        partition=lambda bowl, key: (),
        sample=lambda partition, key: (),
        batch=lambda bowl, sample: bowl,
        loss=loss,
        evaluate=evaluate,
    )
