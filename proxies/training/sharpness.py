"""Sharpness of a minimum: the largest eigenvalue of the loss's Hessian."""

from functools import partial

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task

_BATCHES = 8  # number of batches that the loss is averaged over
_ITERATIONS = 60  # number of iterations of the power method


@partial(jax.jit, static_argnames=("task",))
def sharpness(task: Task, params: PyTree, data: PyTree, key: jax.Array) -> jax.Array:
    """Return the eigenvalue of largest magnitude of the Hessian of `task.loss` at `params`.

    The eigenvalue is found by power iteration. Products with the Hessian are forward derivatives of
    the gradient, so the Hessian is never built (Pearlmutter 1994). The custom gradient of a task is
    ignored: the Hessian is that of the task's `loss`.

    >>> import jax, proxies
    >>> task = proxies.load("quadratic")
    >>> key = jax.random.key(0)
    >>> float(proxies.sharpness(task, task.init(key), task.data, key)) > 0
    True

    Args:
        task: the task whose loss is differentiated.
        params: the weights, usually those at the end of a training.
        data: the task's data, on a device.
        key: the seed of the batches and of the initial vector.

    Returns:
        float32 scalar; negative if the curvature of largest magnitude is negative.
    """
    partition_key, sample_key, loss_key, start_key = jax.random.split(key, 4)
    partition = task.partition(data, partition_key)
    sample = partial(task.sample, partition)
    samples = jax.vmap(sample)(jax.random.split(sample_key, _BATCHES))

    def loss(weights: PyTree) -> jax.Array:
        def batch_loss(index: jax.Array) -> jax.Array:
            sample = jax.tree.map(lambda rows: rows[index], samples)
            return task.loss(weights, task.batch(data, sample), loss_key)

        return jnp.mean(jax.lax.map(batch_loss, jnp.arange(_BATCHES)))

    def hessian_product(vector: PyTree) -> PyTree:
        return jax.jvp(jax.grad(loss), (params,), (vector,))[1]

    def iterate(_: int, vector: PyTree) -> PyTree:
        return _normalized(hessian_product(vector))

    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(start_key, len(leaves))
    start = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    vector = jax.lax.fori_loop(
        0, _ITERATIONS, iterate, _normalized(jax.tree.unflatten(tree, start))
    )
    return _dot(vector, hessian_product(vector))


def _dot(a: PyTree, b: PyTree) -> jax.Array:
    return jnp.stack(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))).sum()


def _normalized(vector: PyTree) -> PyTree:
    norm = jnp.sqrt(_dot(vector, vector))
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(norm, 1e-30), vector)
