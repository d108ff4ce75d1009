"""How sharp a minimum is: the largest eigenvalue of the loss's Hessian."""

from functools import partial

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task

_BATCHES = 8  # the loss is the mean over so many of a seed's batches
_ITERATIONS = 60


@partial(jax.jit, static_argnames=("task",))
def sharpness(task: Task, params: PyTree, data: PyTree, key: jax.Array) -> jax.Array:
    """The eigenvalue of largest size of the Hessian of `task.loss` at `params`, by power iteration.

    Products with the Hessian are forward derivatives of the gradient, so it is never built
    (Pearlmutter 1994). For tasks with a gradient of their own it is that of their `loss`.

    Args:
        task: whose loss.
        params: the weights, as at the end of a training.
        data: the task's data, on a device.
        key: the seed that decides the batches and the first vector.

    Returns:
        float32 scalar, negative where the largest curvature is downward.
    """
    partition_key, sample_key, loss_key, start_key = jax.random.split(key, 4)
    partition = task.partition(data, partition_key)
    sample = partial(task.sample, partition)
    samples = jax.vmap(sample)(jax.random.split(sample_key, _BATCHES))

    def loss(weights: PyTree) -> jax.Array:
        def one(which: jax.Array) -> jax.Array:
            drawn = jax.tree.map(lambda draws: draws[which], samples)
            return task.loss(weights, task.batch(data, drawn), loss_key)

        return jnp.mean(jax.lax.map(one, jnp.arange(_BATCHES)))

    def product(vector: PyTree) -> PyTree:
        return jax.jvp(jax.grad(loss), (params,), (vector,))[1]

    def advance(_: int, vector: PyTree) -> PyTree:
        return _unit(product(vector))

    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(start_key, len(leaves))
    start = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    vector = jax.lax.fori_loop(0, _ITERATIONS, advance, _unit(jax.tree.unflatten(tree, start)))
    return _dot(vector, product(vector))


def _dot(a: PyTree, b: PyTree) -> jax.Array:
    return jnp.stack(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))).sum()


def _unit(vector: PyTree) -> PyTree:
    size = jnp.sqrt(_dot(vector, vector))
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(size, 1e-30), vector)
