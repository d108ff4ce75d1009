"""Tasks computed in less precision than their weights are kept in."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task

SUFFIX = "+bfloat16"
"""What the names of such tasks end with, so that results of both never mix."""


@cache
def in_bfloat16(task: Task) -> Task:
    """The same task with its loss and gradient computed in bfloat16; always the same object.

    Weights stay float32 (master weights, Micikevicius et al. 2018): for each step they and the
    batch's floating arrays are rounded to bfloat16, and the loss and its gradient come back as
    float32. No loss is scaled, since bfloat16 has the range of float32. The evaluation stays in
    float32. Worth its while where the hardware multiplies bfloat16 faster; a CPU does not.
    """

    def loss(params: PyTree, batch: PyTree, key: jax.Array) -> jax.Array:
        return task.loss(_rounded(params), _rounded(batch), key).astype(jnp.float32)

    def gradient(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        assert task.gradient is not None
        found, slopes = task.gradient(_rounded(params), _rounded(batch), key)
        wide = jax.tree.map(lambda slope, weight: slope.astype(weight.dtype), slopes, params)
        return found.astype(jnp.float32), wide

    return replace(
        task,
        name=task.name + SUFFIX,
        description=f"{task.description}, in bfloat16",
        loss=loss,
        gradient=None if task.gradient is None else gradient,
    )


def _rounded(tree: PyTree) -> PyTree:
    """Floating arrays as bfloat16, others as they are."""

    def narrow(leaf: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.bfloat16) if floating else leaf

    return jax.tree.map(narrow, tree)
