"""One step of a batch of programs, where each lane runs its own instructions.

`gangs` runs on any device through XLA; `kernel` runs on NVIDIA GPUs. Both compute what
`primitives.machine.step` computes for one program.
"""

from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
from jax import lax

from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import run_gangs
from primitives.machine.encoding import Code
from primitives.machine.instructions import InstructionSet


def run_batch(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: jax.Array,
    tensors: jax.Array,
    scalars: jax.Array,
) -> Any:
    """Run one step of every lane with the implementation for the device.

    Arguments and results are those of `gangs.run_gangs`. CUDA devices run gangs too if JAX lacks
    Pallas's Triton backend, which JAX 0.11 deprecates.
    """
    implementations = {"default": partial(run_gangs, instructions, model)}
    if find_spec("jax.experimental.pallas.triton"):
        from primitives.machine.batch.kernel import run_kernel

        implementations["cuda"] = partial(run_kernel, instructions, model)
    return lax.platform_dependent(code, sum_factors, tensors, scalars, **implementations)
