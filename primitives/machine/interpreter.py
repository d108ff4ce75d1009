"""The interpreter, which is compiled once and then runs every program as data.

`interpreter(ops)` is an optax transformation whose state holds the registers and the encoded
program. So a training loop that is compiled once trains with any program, learning rate and seed.
Under `jax.vmap` the transformation runs a batch of programs with `primitives.machine.batch`.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.custom_batching import custom_vmap

from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch import run_batch
from primitives.machine.encoding import Code
from primitives.machine.instructions import ALL_OPS, InstructionSet, OpNames, instruction_set
from primitives.machine.step import Inputs, run_step

PyTree = Any
Array = jax.Array


class MachineState(NamedTuple):
    """The optimizer state of the interpreter.

    Attributes:
        tensors: [registers, weights] float32, the tensor registers. Register 0 holds the weights,
            register 1 the gradient.
        scalars: [registers] float32, the scalar registers. Register 0 holds lr, register 1 t.
        sum_factors: [kinds, weights] float32; see `ArrayLayout.sum_factors`.
        code: the program.
        factor: () float32, the learning rate, which multiplies the program's update.
    """

    tensors: Array
    scalars: Array
    sum_factors: Array
    code: Code
    factor: Array


def _init(params: PyTree, code: Code, factor: Array | float = 1.0) -> MachineState:
    model = ArrayLayout(params)
    tensors = jnp.broadcast_to(
        jnp.asarray(code.initial_tensors)[:, None], (code.initial_tensors.shape[0], model.size)
    )
    code = Code(*map(jnp.asarray, code))
    scale = jnp.asarray(factor, jnp.float32)
    return MachineState(
        tensors, jnp.asarray(code.initial_scalars), model.sum_factors(), code, scale
    )


def _update(
    instructions: InstructionSet,
    grads: PyTree,
    state: MachineState,
    params: PyTree | None,
    lr: Array | float,
    t: Array | float,
    use_kernel: bool,
) -> tuple[PyTree, MachineState]:
    if params is None:
        raise ValueError("update() needs the weights, which programs may read: pass params")
    model = ArrayLayout(params)
    inputs = Inputs(params, grads, jnp.float32(lr), jnp.float32(t), state.factor)
    updates, tensors, scalars = _step(instructions, model, use_kernel)(
        state.code, state.sum_factors, state.tensors, state.scalars, inputs
    )
    return updates, state._replace(tensors=tensors, scalars=scalars)


def _step(instructions: InstructionSet, model: ArrayLayout, use_kernel: bool) -> Any:
    """Return the function that runs one step of a program; under `vmap`, of a batch of programs."""
    step_one = custom_vmap(partial(run_step, instructions, model))

    @step_one.def_vmap
    def step_many(
        lanes: int,
        are_batched: Any,
        code: Code,
        _: Array,
        tensors: Array,
        scalars: Array,
        inputs: Inputs,
    ) -> Any:
        def broadcast(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (lanes, *leaf.shape))

        arguments = code, tensors, scalars, inputs
        code_is_batched, _, *others_are_batched = are_batched
        code, tensors, scalars, inputs = jax.tree.map(
            broadcast, arguments, (code_is_batched, *others_are_batched)
        )
        sum_factors = model.sum_factors()  # the same for all lanes; empty lanes have unset factors
        result = run_batch(
            instructions,
            model,
            code,
            sum_factors,
            tensors,
            scalars,
            inputs,
            use_kernel=use_kernel,
        )
        return result, jax.tree.map(lambda _: True, result)

    return step_one


@cache
def interpreter(
    ops: OpNames = ALL_OPS, use_kernel: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Return the optax transformation that runs any program over the given ops.

    Its functions are `init(params, code, factor=1.0)`, where `code` is `encode(program, ops)`, and
    `update(grads, state, params, lr=1.0, t=1.0)`, which returns `-factor` times the program's
    update. Equal arguments give the same object, so that a jitted function which takes it as a
    static argument is compiled once.

    Args:
        ops: names of the ops that programs may use; all by default.
        use_kernel: whether batches on NVIDIA GPUs run the Pallas kernel; otherwise they run gangs.

    Example:
        >>> from primitives import encode, zoo
        >>> params, grads = jnp.ones(2), jnp.array([1.0, -1.0])
        >>> optimizer = interpreter()
        >>> state = optimizer.init(params, encode(zoo.load("momentum")), 1.0)
        >>> updates, state = optimizer.update(grads, state, params, lr=0.5)
        >>> updates.tolist()
        [-0.5, 0.5]
    """
    instructions = instruction_set(ops)

    def update(
        grads: PyTree,
        state: MachineState,
        params: PyTree | None = None,
        *,
        lr: Array | float = 1.0,
        t: Array | float = 1.0,
        **_: Any,
    ) -> tuple[PyTree, MachineState]:
        return _update(instructions, grads, state, params, lr, t, use_kernel)

    return optax.GradientTransformationExtraArgs(_init, update)  # type: ignore[arg-type]
