"""Tasks whose weights and batches are split over several devices."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from proxies.task import PyTree, Task

MIN_SPLIT_SIZE = 1_024
"""Minimum number of elements of an array that is split; smaller arrays are replicated."""


@cache
def over_devices(task: Task, mesh: Mesh) -> Task:
    """Return the same task with weights and batches split over the devices of `mesh`.

    Each array of weights is split along its largest axis that the number of devices divides, or
    replicated if there is none. XLA splits gradients and rule states of the same shape in the same
    way. Batches and evaluation items are split along their first axis if the number of devices
    divides the axis, so that each device computes the loss of its part of the batch (fully sharded
    data parallelism, Rajbhandari et al. 2020). Each device holds all of `data`, since a batch may
    read any item; each whole array of weights while it is used; and all weights while they are
    initialised.

    The task keeps its name, since it computes the same function. Sums are taken in a different
    order, so losses agree up to rounding, not bit for bit. Data and keys must not be committed to
    a device, as `jax.device_put` with an explicit device does.

    >>> import jax, proxies
    >>> mesh = jax.make_mesh((1,), ("device",))
    >>> over_devices(proxies.load("digits-mlp"), mesh).name
    'digits-mlp'

    Args:
        task: the task to split.
        mesh: devices along one axis, such as `jax.make_mesh((8,), ("device",))`.

    Returns:
        A task; always the same object for the same arguments, so that it is compiled once.

    Raises:
        ValueError: the mesh does not have exactly one axis.
    """
    if len(mesh.axis_names) != 1:
        axes = ", ".join(map(repr, mesh.axis_names)) or "none"
        raise ValueError(f"task {task.name!r}: the mesh has the axes {axes}; make it with one axis")
    # With explicit axes, every operation of every task would have to name its result's sharding.
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,))

    def place(leaf: jax.Array, axis: int | None) -> jax.Array:
        axes = () if axis is None else (*[None] * axis, *mesh.axis_names)
        spec = PartitionSpec(*axes)  # type: ignore[no-untyped-call]
        placed: jax.Array = jax.lax.with_sharding_constraint(  # type: ignore[no-untyped-call]
            leaf, NamedSharding(mesh, spec)
        )
        return placed

    def split_weights(weights: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: place(leaf, axis_to_split(leaf.shape, mesh.size)), weights)

    def split_batch(batch: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: place(leaf, 0) if leaf.ndim and leaf.shape[0] % mesh.size == 0 else leaf,
            batch,
        )

    def init(key: jax.Array) -> PyTree:
        return split_weights(task.init(key))

    def batch(data: PyTree, sample: PyTree) -> PyTree:
        return split_batch(task.batch(data, sample))

    def loss(params: PyTree, batch: PyTree, key: jax.Array) -> jax.Array:
        return task.loss(split_weights(params), batch, key)  # XLA splits the gradient, too

    def evaluate(params: PyTree, data: PyTree, partition: PyTree, key: jax.Array) -> jax.Array:
        return task.evaluate(split_weights(params), data, split_batch(partition), key)

    gradient = None if task.gradient is None else _split_gradient(task.gradient, split_weights)
    return replace(task, init=init, batch=batch, loss=loss, evaluate=evaluate, gradient=gradient)


def axis_to_split(shape: tuple[int, ...], devices: int) -> int | None:
    """Return the largest axis whose size `devices` divides; the first one if several are equal.

    Args:
        shape: the shape of an array of weights.
        devices: number of devices.

    Returns:
        The index of the axis; None if the array is to be replicated.
    """
    if math.prod(shape) < MIN_SPLIT_SIZE:
        return None
    divisible = [axis for axis, size in enumerate(shape) if size % devices == 0]
    return max(divisible, key=lambda axis: shape[axis], default=None)


def _split_gradient(
    gradient: Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]],
    split_weights: Callable[[PyTree], PyTree],
) -> Callable[[PyTree, PyTree, jax.Array], tuple[jax.Array, PyTree]]:
    def split_gradient(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        loss, gradients = gradient(split_weights(params), batch, key)
        return loss, split_weights(gradients)

    return split_gradient
