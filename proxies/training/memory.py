"""How much memory a training takes, and whether one device has it."""

import os

import jax
import jax.numpy as jnp

from proxies.task import PyTree, Task
from proxies.training.loop import Rule, StepSchedule
from proxies.training.single import compile_train

_USABLE = 0.9  # of a device's memory: the rest is for what the plan does not know


def memory(
    task: Task, rule: Rule, *, steps: int | None = None, operands: tuple[PyTree, ...] = ()
) -> int:
    """The bytes that each device needs to train `task` with `rule`.

    It is what the compiler plans for the whole training, compiled for JAX's default backend but
    not run: arguments (the data), results, and everything in between (weights, the rule's states,
    gradients, activations, the draws of all batches), as if results had memory of their own. So
    it costs a compilation. For a task over several devices it is the share of each of them.

    Args:
        task: what to train.
        rule: as in `proxies.train`.
        steps: the number of steps; None for the task's own budget.
        operands: further arguments of `rule.init`.

    Raises:
        RuntimeError: the backend does not tell what it plans.
    """
    budget = task.steps if steps is None else steps
    data, key, course, further = jax.eval_shape(
        lambda data, operands: (
            data,
            jax.random.key(0),
            StepSchedule.plain(jnp.zeros(budget, jnp.float32), budget),
            operands,
        ),
        task.data,
        operands,
    )
    planned = compile_train(task, rule, data, key, course, further).memory_analysis()
    if planned is None:
        raise RuntimeError(f"JAX's {jax.default_backend()} backend does not tell its memory plan")
    needed: int = (
        planned.argument_size_in_bytes
        + planned.output_size_in_bytes
        + planned.temp_size_in_bytes
        - planned.alias_size_in_bytes
    )
    return needed


def fits(
    task: Task,
    rule: Rule,
    *,
    steps: int | None = None,
    operands: tuple[PyTree, ...] = (),
    capacity: int | None = None,
) -> bool:
    """Whether a training takes at most nine tenths of one device's memory.

    Args:
        task: what to train.
        rule: as in `proxies.train`.
        steps: the number of steps; None for the task's own budget.
        operands: further arguments of `rule.init`.
        capacity: the device's memory in bytes; None for that of JAX's first device.
    """
    available = memory_of(jax.local_devices()[0]) if capacity is None else capacity
    return memory(task, rule, steps=steps, operands=operands) <= _USABLE * available


def memory_of(device: jax.Device) -> int:
    """The bytes that JAX may use on `device`; for a CPU, which keeps no account, all there are."""
    kept = device.memory_stats()
    if kept and "bytes_limit" in kept:
        return int(kept["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
