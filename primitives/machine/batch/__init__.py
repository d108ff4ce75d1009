"""One step of many programs at once, each with its own instructions.

`gangs` runs anywhere through XLA; `kernel` is for NVIDIA's GPUs. Both compute what
`primitives.machine.step` computes for one program.
"""

from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
from jax import lax

from primitives.machine.arrays import Arrays
from primitives.machine.batch.gangs import run_gangs
from primitives.machine.encoding import Code
from primitives.machine.instructions import InstructionSet


def run_batch(
    instructions: InstructionSet,
    model: Arrays,
    code: Code,
    share: jax.Array,
    file: jax.Array,
    scalars: jax.Array,
) -> Any:
    """One step of every lane by the way that suits the device; see `gangs.run_gangs`.

    Without Pallas's Triton backend, which JAX 0.11 deprecates, CUDA devices run gangs too.
    """
    ways = {"default": partial(run_gangs, instructions, model)}
    if find_spec("jax.experimental.pallas.triton"):
        from primitives.machine.batch.kernel import run_kernel

        ways["cuda"] = partial(run_kernel, instructions, model)
    return lax.platform_dependent(code, share, file, scalars, **ways)
