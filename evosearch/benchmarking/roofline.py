"""A roofline: the bytes and operations of a batch's step, and the measured rates of the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from primitives.machine.encoding import OPCODE, SECTION, Code
from primitives.machine.instructions import InstructionSet
from proxies import Task

_REPEATS = 5
_CALLS_PER_TIMING = 8  # more than one, so that the latency of a dispatch does not count


@dataclass(frozen=True)
class Rates:
    """Measured rates of one device.

    Attributes:
        bytes_per_second: bytes read and written while a number is added to a large array.
        flops_per_second: rate of large matrix products by the precision of the factors. float32
            products have JAX's default precision, which is lower than float32 on some devices.
    """

    bytes_per_second: float
    flops_per_second: Mapping[str, float]


def measure_rates(numbers: int, side: int) -> Rates:
    """Measure the rates of JAX's first device.

    Args:
        numbers: number of float32 values in the array that is copied; larger than the caches.
        side: rows and columns of the matrices.
    """
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)
    seconds = _seconds_each(add_one, jnp.zeros(numbers, jnp.float32))
    flops = {}
    multiply = jax.jit(jnp.matmul)
    for precision in (jnp.float32, jnp.bfloat16):
        factor = jnp.full((side, side), 1 / side, precision)
        seconds_per_product = _seconds_each(partial(multiply, factor), factor)
        flops[jnp.dtype(precision).name] = 2.0 * side**3 / seconds_per_product
    return Rates(2 * 4 * numbers / seconds, flops)


def _seconds_each(step: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """Return the median seconds of a step that is applied to its own result."""
    x = step(x).block_until_ready()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        for _ in range(_CALLS_PER_TIMING):
            x = step(x)
        x.block_until_ready()
        seconds.append((time.perf_counter() - start) / _CALLS_PER_TIMING)
    return median(seconds)


def register_bytes(codes: Sequence[Code], instructions: InstructionSet, weights: int) -> int:
    """Return the bytes of registers that the programs' instructions read and write in one step.

    Each tensor operand and each tensor result has 4 bytes for each weight. A machine that keeps a
    register in a cache between instructions moves fewer bytes from memory.
    """
    registers = 0
    for code in codes:
        for row in code.instructions[: int(code.length)]:
            section, opcode = int(row[SECTION]), int(row[OPCODE])
            group = (
                instructions.scalar_groups[section - 1]
                if section
                else instructions.tensor_instructions
            )
            registers += group[opcode].layout.count("T") + (section == 0)
    return 4 * weights * registers


def gradient_flops(task: Task) -> float:
    """Return the operations of the matrix products and convolutions in one loss and gradient.

    The operations are counted in JAX's trace, since XLA does not count operations that it leaves to
    a library. All branches of a condition count. The body of a loop of unknown length counts once.
    """
    key = jax.random.key(0)

    def initial_params_and_batch(data: Any, key: jax.Array) -> tuple[Any, Any]:
        sample = task.sample(task.partition(data, key), key)
        return task.init(key), task.batch(data, sample)

    params, batch = jax.eval_shape(initial_params_and_batch, task.data, key)
    gradient = task.gradient or jax.value_and_grad(task.loss)
    return _flops(jax.make_jaxpr(gradient)(params, batch, key).jaxpr)


def _flops(jaxpr: Any) -> float:
    """Return the operations of a jaxpr and of the jaxprs inside it."""
    total = 0.0
    for equation in jaxpr.eqns:
        settings = equation.params
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = settings["dimension_numbers"]
            left, result = equation.invars[0].aval, equation.outvars[0].aval
            total += 2 * result.size * math.prod(left.shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            filters, result = equation.invars[1].aval, equation.outvars[0].aval
            features = filters.shape[settings["dimension_numbers"].rhs_spec[0]]
            total += 2 * result.size * filters.size / features
        else:
            inner = [
                part for part in jax.tree.leaves(list(settings.values())) if _has_equations(part)
            ]
            repetitions = settings.get("length", 1) if equation.primitive.name == "scan" else 1
            total += repetitions * sum(_flops(getattr(part, "jaxpr", part)) for part in inner)
    return total


def _has_equations(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
