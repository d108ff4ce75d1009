"""The compile-once interpreter: one compiled machine that runs every program as data.

`interpreter(ops)` is an optax transformation whose state carries the register files and the encoded
program, so that a training loop compiled once trains with any program, learning rate and seed.
Under `jax.vmap` the whole batch of programs goes through one machine (`primitives.machine.batch`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.custom_batching import custom_vmap

from primitives.machine.arrays import Arrays
from primitives.machine.batch import run_batch
from primitives.machine.encoding import Code
from primitives.machine.instructions import ALL_OPS, InstructionSet, OpNames, instruction_set
from primitives.machine.step import read, run

PyTree = Any
Array = jax.Array


class MachineState(NamedTuple):
    """What travels from step to step.

    Attributes:
        file: [registers, weights] float32; row 0 is the weights, row 1 the gradient.
        scalars: [registers] float32; 0 is lr, 1 is t.
        share: [kinds, weights] float32, how many own numbers of a value of a kind each of its
            broadcast elements stands for: sums over a value are weighted with it.
        code: the program.
        factor: () float32, the learning rate: what the update is multiplied with.
    """

    file: Array
    scalars: Array
    share: Array
    code: Code
    factor: Array


def _init(params: PyTree, code: Code, factor: Array | float = 1.0) -> MachineState:
    model = Arrays(params)
    file = jnp.broadcast_to(jnp.asarray(code.rows)[:, None], (code.rows.shape[0], model.size))
    code = Code(*map(jnp.asarray, code))
    scale = jnp.asarray(factor, jnp.float32)
    return MachineState(file, jnp.asarray(code.scalars), model.share(), code, scale)


def _update(
    instructions: InstructionSet,
    grads: PyTree,
    state: MachineState,
    params: PyTree | None,
    lr: Array | float,
    t: Array | float,
) -> tuple[PyTree, MachineState]:
    if params is None:
        raise ValueError("the update of a program reads the weights; pass params")
    model = Arrays(params)
    file = model.enter(model.enter(state.file, params, 0), grads, 1)
    scalars = state.scalars.at[:2].set(jnp.stack([jnp.float32(lr), jnp.float32(t)]))
    file, scalars = _run(instructions, model)(state.code, state.share, file, scalars)
    update = read(file, state.code.update) * read(scalars, state.code.scale)
    updates = model.unravel(update * -state.factor)
    return updates, state._replace(file=file, scalars=scalars)


def _run(instructions: InstructionSet, model: Arrays) -> Any:
    """One step of one program, or of each in a batch of them."""
    alone = custom_vmap(partial(run, instructions, model))

    @alone.def_vmap
    def together(
        lanes: int, batched: Any, code: Code, share: Array, file: Array, scalars: Array
    ) -> Any:
        def spread(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (lanes, *leaf.shape))

        own_code, _, *own_files = batched
        code, (file, scalars) = jax.tree.map(
            spread, (code, (file, scalars)), (own_code, tuple(own_files))
        )
        # The share is the model's, not a lane's, and empty lanes have none.
        return run_batch(instructions, model, code, model.share(), file, scalars), (True, True)

    return alone


@cache
def interpreter(ops: OpNames = ALL_OPS) -> optax.GradientTransformationExtraArgs:
    """The rule for any program of `ops`: `init(params, code, factor)`, `update(..., lr=, t=)`.

    The code is that of `encode(program, ops)`. Equal `ops` give the same object, so that a jitted
    function which takes it as a static argument is compiled once.

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
        return _update(instructions, grads, state, params, lr, t)

    return optax.GradientTransformationExtraArgs(_init, update)  # type: ignore[arg-type]
