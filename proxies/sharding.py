"""Tasks whose weights and batches lie on several devices, for what is too large for one."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from proxies.task import PyTree, Task

TINY = 1_024
"""Arrays of fewer numbers lie whole on every device: parts would cost more than they save."""


@cache
def over_devices(task: Task, mesh: Mesh) -> Task:
    """The same task with weights and batches in parts on the devices of `mesh`.

    Every array of weights is split along its largest axis that can be cut evenly, or lies whole on
    every device if there is none; so are its gradient and what a rule keeps of the same shape,
    which XLA derives. Batches, and the items of the evaluation, are split along their first axis if
    it can be cut evenly, so that each device computes its share of the loss (fully sharded data
    parallelism, Rajbhandari et al. 2020). What lies whole on every device: `data`, of which a batch
    may read any item; each array of weights in turn, while it is used; and all weights once, while
    they are drawn.

    It is the same function of the same numbers, and so has the same name; sums are taken in
    another order, so losses agree within rounding, not bit for bit. Hand over data and keys that
    are not committed to a device, as they are unless `jax.device_put` was told one.

    Args:
        task: what to spread.
        mesh: devices along one axis, as `jax.make_mesh((8,), ("device",))` makes it.

    Returns:
        The task; always the same object for the same arguments, so that it compiles once.

    Raises:
        ValueError: the mesh has not one axis.
    """
    if len(mesh.axis_names) != 1:
        axes = ", ".join(map(repr, mesh.axis_names)) or "none"
        raise ValueError(f"task {task.name!r}: the mesh has the axes {axes}; make it of one axis")
    # With explicit axes, every operation of every task would have to say how its result is laid.
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,))

    def lay(leaf: jax.Array, axis: int | None) -> jax.Array:
        split = () if axis is None else (*[None] * axis, *mesh.axis_names)
        spec = PartitionSpec(*split)  # type: ignore[no-untyped-call]
        laid: jax.Array = jax.lax.with_sharding_constraint(  # type: ignore[no-untyped-call]
            leaf, NamedSharding(mesh, spec)
        )
        return laid

    def spread(weights: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: lay(leaf, axis_to_split(leaf.shape, mesh.size)), weights)

    def share(batch: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: lay(leaf, 0) if leaf.ndim and leaf.shape[0] % mesh.size == 0 else leaf,
            batch,
        )

    def init(key: jax.Array) -> PyTree:
        return spread(task.init(key))

    def batch(data: PyTree, sample: PyTree) -> PyTree:
        return share(task.batch(data, sample))

    def loss(params: PyTree, batch: PyTree, key: jax.Array) -> jax.Array:
        return task.loss(spread(params), batch, key)  # and so is the gradient, its transpose

    def evaluate(params: PyTree, data: PyTree, partition: PyTree, key: jax.Array) -> jax.Array:
        return task.evaluate(spread(params), data, share(partition), key)

    gradient = None if task.gradient is None else _spread_gradient(task.gradient, spread)
    return replace(task, init=init, batch=batch, loss=loss, evaluate=evaluate, gradient=gradient)


def axis_to_split(shape: tuple[int, ...], parts: int) -> int | None:
    """The largest axis that can be cut evenly, the first of equal ones; None to keep it whole."""
    if math.prod(shape) < TINY:
        return None
    even = [axis for axis, size in enumerate(shape) if size % parts == 0]
    return max(even, key=lambda axis: shape[axis], default=None)


def _spread_gradient(
    gradient: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]],
    spread: Callable[[PyTree], PyTree],
) -> Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]]:
    def spread_gradient(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        loss, slopes = gradient(spread(params), batch, key)
        return loss, spread(slopes)

    return spread_gradient
