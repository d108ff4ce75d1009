"""One step of a batch of programs, where each lane runs its own instructions.

`gangs` runs on any device through XLA; `kernel` runs on NVIDIA GPUs. Both compute what
`primitives.machine.step` computes for one program. `kernel` alone knows Pallas.
"""

from functools import partial
from typing import Any

import jax
from jax import lax

from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import run_gangs
from primitives.machine.encoding import Code
from primitives.machine.instructions import InstructionSet
from primitives.machine.step import Inputs


def run_batch(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: jax.Array,
    tensors: jax.Array,
    scalars: jax.Array,
    inputs: Inputs,
    *,
    use_kernel: bool = True,
) -> Any:
    """Run one step of every lane with the implementation for the device.

    Arguments and results are those of `gangs.run_gangs`. CUDA devices run gangs too without
    `use_kernel`, or if this JAX lacks Pallas's Triton backend.
    """
    implementations = {"default": partial(run_gangs, instructions, model)}
    run_kernel = _kernel() if use_kernel else None
    if run_kernel is not None:
        implementations["cuda"] = partial(run_kernel, instructions, model)
    return lax.platform_dependent(code, sum_factors, tensors, scalars, inputs, **implementations)


def runs_kernel(device: jax.Device) -> bool:
    """Return whether batches on `device` run the kernel."""
    is_nvidia = device.platform == "gpu" and "cuda" in device.client.platform_version.lower()
    return is_nvidia and _kernel() is not None


def _kernel() -> Any:
    """Return `run_kernel`; None if this JAX lacks Pallas's Triton backend, which JAX deprecates."""
    try:
        from primitives.machine.batch.kernel import run_kernel
    except ImportError:
        return None
    return run_kernel
