"""Memory that a training needs, and whether a device has enough."""

import os

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task
from proxies.training.loop import Rule, StepSchedule
from proxies.training.single import compile_train

_USABLE = 0.9  # fraction of a device's memory; the estimate omits what the rest is for


def memory(
    task: Task, rule: Rule, *, steps: int | None = None, operands: tuple[PyTree, ...] = ()
) -> int:
    """Return the number of bytes that each device needs to train `task` with `rule`.

    The number is the compiler's estimate for the whole training: arguments (the data), results,
    and temporary values (weights, the rule's states, gradients, activations, the random draws of
    all batches). The training is compiled for JAX's default backend, but not run. For a task over
    several devices, the number is what each device needs.

    >>> import optax, proxies
    >>> proxies.memory(proxies.load("quadratic"), optax.sgd(0.1), steps=2) > 0
    True

    Args:
        task: the task to train.
        rule: an optax pair of `init` and `update`, as in `proxies.train`.
        steps: number of steps; None uses the task's budget.
        operands: additional arguments of `rule.init`.

    Raises:
        RuntimeError: the backend gives no estimate.
    """
    budget = task.steps if steps is None else steps
    data, key, schedule, operands = jax.eval_shape(
        lambda data, operands: (
            data,
            jax.random.key(0),
            StepSchedule.plain(jnp.zeros(budget, jnp.float32), budget),
            operands,
        ),
        task.data,
        operands,
    )
    estimate = compile_train(task, rule, data, key, schedule, operands).memory_analysis()
    if estimate is None:
        raise RuntimeError(
            f"JAX's {jax.default_backend()} backend gives no estimate of memory; "
            "use another backend, such as cpu"
        )
    needed_bytes: int = (
        estimate.argument_size_in_bytes
        + estimate.output_size_in_bytes
        + estimate.temp_size_in_bytes
        - estimate.alias_size_in_bytes
    )
    return needed_bytes


def fits(
    task: Task,
    rule: Rule,
    *,
    steps: int | None = None,
    operands: tuple[PyTree, ...] = (),
    capacity: int | None = None,
) -> bool:
    """Return whether a training needs at most nine tenths of one device's memory.

    >>> import optax, proxies
    >>> proxies.fits(proxies.load("quadratic"), optax.sgd(0.1), steps=2, capacity=10**9)
    True

    Args:
        task: the task to train.
        rule: an optax pair of `init` and `update`, as in `proxies.train`.
        steps: number of steps; None uses the task's budget.
        operands: additional arguments of `rule.init`.
        capacity: the device's memory in bytes; None uses that of JAX's first device.

    Raises:
        RuntimeError: the backend gives no estimate of memory.
    """
    available = memory_of(jax.local_devices()[0]) if capacity is None else capacity
    return memory(task, rule, steps=steps, operands=operands) <= _USABLE * available


def memory_of(device: jax.Device) -> int:
    """Return the number of bytes that JAX may use on `device`; for a CPU, all of its memory."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
