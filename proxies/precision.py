"""Tasks whose loss and gradient are computed in bfloat16."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task

SUFFIX = "+bfloat16"
"""Suffix of the names of tasks in bfloat16, so that their results are stored separately."""


@cache
def in_bfloat16(task: Task) -> Task:
    """Return the same task with its loss and gradient computed in bfloat16.

    Weights stay float32 (master weights, Micikevicius et al. 2018). Each step rounds the weights
    and the batch's floating-point arrays to bfloat16, and returns the loss and its gradient as
    float32. There is no loss scaling, since bfloat16 has the range of float32. The evaluation stays
    float32. Training in bfloat16 saves time on hardware that multiplies bfloat16 faster than
    float32, but not on CPUs.

    >>> import proxies
    >>> in_bfloat16(proxies.load("digits-mlp")).name
    'digits-mlp+bfloat16'

    Args:
        task: any task.

    Returns:
        A task; always the same object for the same argument, so that it is compiled once.
    """

    def loss(params: PyTree, batch: PyTree, key: jax.Array) -> jax.Array:
        return task.loss(_rounded(params), _rounded(batch), key).astype(jnp.float32)

    def gradient(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        assert task.gradient is not None
        loss, gradients = task.gradient(_rounded(params), _rounded(batch), key)
        float32 = jax.tree.map(lambda leaf, weight: leaf.astype(weight.dtype), gradients, params)
        return loss.astype(jnp.float32), float32

    return replace(
        task,
        name=task.name + SUFFIX,
        description=f"{task.description}, in bfloat16",
        loss=loss,
        gradient=None if task.gradient is None else gradient,
    )


def _rounded(tree: PyTree) -> PyTree:
    """Round floating-point arrays to bfloat16; leave other arrays unchanged."""

    def rounded(leaf: jax.Array) -> jax.Array:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.bfloat16) if is_float else leaf

    return jax.tree.map(rounded, tree)
