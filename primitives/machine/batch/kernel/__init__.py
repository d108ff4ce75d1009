"""Batches of programs as a Pallas kernel for NVIDIA GPUs: a block of threads for each lane.

A block runs its lane's program. A sequence of elementwise instructions is run tile by tile: the
whole sequence for one tile of the weights, then for the next tile. So an instruction reads the
result of the previous instruction from the cache. Sums end such a sequence.

If all matrices of the model are small, ops that multiply matrices run in the kernel, one submatrix
at a time. So a thread needs few registers, and many lanes run side by side. For a model with a
large matrix, gangs run these ops between calls of the kernel.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import Gangs, Lanes
from primitives.machine.batch.kernel.block import Arguments, Block
from primitives.machine.batch.kernel.model_tables import ModelTables, tables_of
from primitives.machine.batch.kernel.work import Work, branches_of
from primitives.machine.encoding import Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import Inputs, PyTree

Array = jax.Array

_WARPS = 4
"""Number of warps, of 32 threads each, that run a lane."""


def run_kernel(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
    inputs: Inputs,
    *,
    interpret: bool = False,
) -> tuple[PyTree, Array, Array]:
    """Run one step of every lane; arguments and results are those of `gangs.run_gangs`.

    With `interpret`, JAX interprets the kernel on any device, for tests.
    """
    branches = branches_of(instructions, model)
    tables = tables_of(model)
    lane_count = tensors.shape[0]
    weights, grads = (_flatten(tree, lane_count) for tree in (inputs.weights, inputs.grads))
    arguments = Arguments(
        program=code.instructions,
        length=code.length,
        dispatch=branches.rows_of(code),
        update_registers=jnp.stack([code.update, code.scale], axis=1),
        ranges=jnp.asarray(tables.ranges),
        matrices=jnp.asarray(tables.matrices),
        sum_factors=sum_factors,
        numbers=jnp.stack([inputs.lr, inputs.t, inputs.factor], axis=1),
        weights=weights,
        grads=grads,
    )
    needs_scratch = bool(branches.by_kind_of_work[Work.MATRIX])
    scratch: Any = jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
        (lane_count, 3 * tables.largest_matrix if needs_scratch else 1), jnp.float32
    )

    def run_in_kernel(lanes: Lanes) -> tuple[Lanes, list[Array]]:
        """Run every lane until its program ends or its next instruction runs outside the kernel.

        Also return the updates of the lanes whose programs have ended.
        """
        argument_count = len(jax.tree.leaves(arguments))
        call = pl.pallas_call(
            partial(_run_lane, branches.by_kind_of_work, tables, model, interpret),
            out_shape=(Lanes(*map(jax.typeof, lanes)), list(map(jax.typeof, weights)), scratch),
            grid=(lane_count,),
            input_output_aliases={argument_count + number: number for number in range(len(lanes))},
            compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
            interpret=interpret,
            name="optimizer_programs",
        )
        after, updates, _ = call(arguments, lanes)
        return after, updates

    start = Lanes(jnp.zeros(lane_count, jnp.int32), tensors, scalars)
    if branches.by_kind_of_work[Work.OUTSIDE]:
        gangs = Gangs(instructions, model, code, sum_factors)
        tensor_count = len(instructions.tensor_instructions)
        is_outside = jnp.asarray(branches.table[:tensor_count, 0] == Work.OUTSIDE)

        def run_next_round(lanes: Lanes) -> Lanes:
            return gangs.run_tensor_instructions(
                run_in_kernel(lanes)[0], includes=lambda opcode: is_outside[opcode]
            )

        start = lax.while_loop(gangs.are_running, run_next_round, start)
    end, updates = run_in_kernel(start)
    leaves = [
        update.reshape(lane_count, *shape)
        for update, shape in zip(updates, model.shapes, strict=True)
    ]
    return jax.tree.unflatten(model.structure, leaves), end.tensors, end.scalars


def _flatten(tree: PyTree, lane_count: int) -> list[Array]:
    """Return the arrays of a pytree as matrices [lanes, weights of the array]."""
    return [leaf.reshape(lane_count, -1) for leaf in jax.tree.leaves(tree)]


def _run_lane(
    by_kind_of_work: dict[Work, list[Instruction]],
    tables: ModelTables,
    model: ArrayLayout,
    interpret: bool,
    arguments: Arguments,
    _before: Lanes,
    after: Lanes,
    updates: list[Any],
    scratch: Any,
) -> None:
    """Run the kernel for one lane. `_before` and `after` are the same memory."""
    lane = pl.program_id(0)
    block = Block(lane, by_kind_of_work, tables, model, interpret, arguments, *after, scratch)
    block.run(updates)
