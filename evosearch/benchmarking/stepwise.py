"""Training with a Python loop over steps, as an alternative to the interpreter in the benchmark.

The gradient is compiled once for a task, the update once for every program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental.compilation_cache import compilation_cache

import proxies
from primitives import Program, rule
from proxies import Task

PyTree = Any


class Stepwise:
    """Trains one task with any program in a Python loop over steps.

    A training does the same work as `proxies.compiled_train`, with different random numbers and
    without early stopping.
    """

    def __init__(self, task: Task, steps: int):
        self._steps = steps
        self._data = jax.device_put(task.data)
        self._rates = proxies.relative_rates("cosine", steps, steps)

        def begin(data: PyTree, key: jax.Array) -> tuple[PyTree, ...]:
            init_key, partition_key, sample_key, loss_key, end_key = jax.random.split(key, 5)
            partition = task.partition(data, partition_key)
            sample = partial(task.sample, partition)
            samples = jax.vmap(sample)(jax.random.split(sample_key, steps))
            return task.init(init_key), partition, samples, loss_key, end_key

        def gradient(
            params: PyTree, data: PyTree, samples: PyTree, key: jax.Array, step: jax.Array
        ) -> PyTree:
            sample = jax.tree.map(lambda draws: draws[step], samples)
            compute = task.gradient or jax.value_and_grad(task.loss)
            _, gradients = compute(params, task.batch(data, sample), key)
            return gradients

        self._begin = jax.jit(begin)
        self._gradient = jax.jit(gradient)
        self._evaluate = jax.jit(task.evaluate)

    def run(self, program: Program, key: jax.Array) -> float:
        """Return the final loss of a training with `program`; a new program is compiled first."""
        transformation = rule(program)

        def update(
            gradients: PyTree, state: PyTree, params: PyTree, lr: jax.Array, t: jax.Array
        ) -> tuple[PyTree, PyTree]:
            updates, state = transformation.update(gradients, state, params, lr=lr, t=t)
            return optax.apply_updates(params, updates), state

        advance = jax.jit(update)
        params, partition, samples, loss_key, end_key = self._begin(self._data, key)
        state = transformation.init(params)
        for step, lr in enumerate(self._rates):
            gradients = self._gradient(params, self._data, samples, loss_key, np.int32(step))
            params, state = advance(gradients, state, params, lr, np.float32(step + 1))
        return float(self._evaluate(params, self._data, partition, end_key))


@contextmanager
def uncached_compilation() -> Iterator[None]:
    """Disable JAX's persistent compilation cache, so that each compilation is measured in full."""
    config: Any = jax.config
    enabled = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # without a reset, JAX reads the setting only once
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
