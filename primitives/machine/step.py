"""One step of one program on the interpreter.

Blocks of scalar and of tensor instructions alternate. Each tensor instruction is a branch of a
`lax.switch`, which reads operands from registers and returns one value. The value is then written
to a register in place. (If a branch returned the registers, XLA would copy all registers.)
Instructions with a scalar result share a few branches, because fewer branches compile faster. Such
a branch computes the results of several ops and selects one result, which is cheap for scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from primitives.kinds import Kind
from primitives.machine.arrays import ArrayLayout
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.op import Op

Array = jax.Array
PyTree = Any


class Inputs(NamedTuple):
    """The inputs of one step of a program.

    Attributes:
        weights: pytree of the model's weights.
        grads: pytree of gradients with the same structure.
        lr: () float32, the program's schedule input `lr`.
        t: () float32, the number of the step, from 1.
        factor: () float32, the learning rate, which multiplies the program's update.
    """

    weights: PyTree
    grads: PyTree
    lr: Array
    t: Array
    factor: Array


def run_step(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
    inputs: Inputs,
) -> tuple[PyTree, Array, Array]:
    """Run one step of one program.

    Args:
        instructions: the machine's instructions.
        model: the layout of the model.
        code: the program.
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        tensors: [registers, weights] float32.
        scalars: [registers] float32.
        inputs: the inputs of the step.

    Returns:
        The updates, `-factor` times the program's update, as a pytree; and the tensor and scalar
        registers after the step.
    """
    tensors, scalars = write_inputs(model, tensors, scalars, inputs)
    tensors, scalars = run(instructions, model, code, sum_factors, tensors, scalars)
    return read_updates(model, code, tensors, scalars, inputs.factor), tensors, scalars


def write_inputs(
    model: ArrayLayout, tensors: Array, scalars: Array, inputs: Inputs
) -> tuple[Array, Array]:
    """Write weights, gradients, lr and t to their registers; return the registers."""
    tensors = model.write_tree(model.write_tree(tensors, inputs.weights, 0), inputs.grads, 1)
    return tensors, scalars.at[:2].set(jnp.stack([inputs.lr, inputs.t]))


def read_updates(
    model: ArrayLayout, code: Code, tensors: Array, scalars: Array, factor: Array
) -> PyTree:
    """Return the updates of a program, as a pytree, from the registers after the step."""
    update = read(tensors, code.update) * read(scalars, code.scale)
    return model.unravel(update * -factor)


def run(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
) -> tuple[Array, Array]:
    """Run all instructions of one step.

    Args:
        instructions: the machine's instructions.
        model: the layout of the model.
        code: the program.
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        tensors: [registers, weights] float32.
        scalars: [registers] float32.

    Returns:
        The tensor and scalar registers after the step.
    """
    # In the following functions, `index` is that of an instruction of the program, () int32.

    def field(index: Array, column: int) -> Array:
        start = (index, np.int32(column))
        entry = lax.dynamic_slice(code.instructions, start, (1, 1), allow_negative_indices=False)
        return entry.reshape(())

    def operands(
        instruction: Instruction, tensors: Array, scalars: Array, index: Array
    ) -> list[Array]:
        return [
            read(tensors if register_class == "T" else scalars, field(index, FIRST + position))
            for position, register_class in enumerate(instruction.layout)
        ]

    def factors(index: Array) -> Array:
        return read(sum_factors, field(index, KIND))

    def tensor_branch(instruction: Instruction) -> Any:
        def compute(tensors: Array, scalars: Array, index: Array) -> Array:
            args = operands(instruction, tensors, scalars, index)
            value = tensor_value(instruction, model, args, lambda: factors(index))
            return jnp.broadcast_to(value, (model.size,)).astype(jnp.float32)

        return compute

    def scalar_branch(group: tuple[Instruction, ...]) -> Any:
        def compute(tensors: Array, scalars: Array, index: Array) -> Array:
            group_operands = [
                operands(instruction, tensors, scalars, index) for instruction in group
            ]
            return scalar_value(group, group_operands, field(index, OPCODE), lambda: factors(index))

        return compute

    tensor_branches = [
        tensor_branch(instruction) for instruction in instructions.tensor_instructions
    ]
    scalar_branches = [scalar_branch(group) for group in instructions.scalar_groups]

    def next_is_scalar(index: Array, expected: bool) -> Array:
        is_running: Array = index < code.length
        return is_running & ((field(index, SECTION) > 0) == expected)

    def block(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        index, tensors, scalars = carry

        def scalar(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            index, scalars = carry
            value = lax.switch(field(index, SECTION) - 1, scalar_branches, tensors, scalars, index)
            return index + 1, write(scalars, value, field(index, OUT))

        index, scalars = lax.while_loop(
            lambda carry: next_is_scalar(carry[0], True), scalar, (index, scalars)
        )

        def tensor(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            index, tensors = carry
            value = lax.switch(field(index, OPCODE), tensor_branches, tensors, scalars, index)
            return index + 1, write(tensors, value, field(index, OUT))

        index, tensors = lax.while_loop(
            lambda carry: next_is_scalar(carry[0], False), tensor, (index, tensors)
        )
        return index, tensors, scalars

    start: tuple[Any, Array, Array] = (np.int32(0), tensors, scalars)
    _, tensors, scalars = lax.while_loop(lambda carry: carry[0] < code.length, block, start)
    return tensors, scalars


def tensor_value(
    instruction: Instruction, model: ArrayLayout, operands: list[Array], factors: Any
) -> Any:
    """Return the value of an instruction with a tensor result.

    Args:
        instruction: the instruction.
        model: the layout of the model.
        operands: vectors [weights] or numbers.
        factors: a function that returns the instruction's row of `sum_factors`, [weights].

    Returns:
        A value that broadcasts to [weights].
    """
    op, operands = apply_inner(instruction, operands)
    if op.matrixwise:
        return undo_repetition(model.apply_to_matrices(instruction.op, operands), factors())
    if op.reduction is None:
        return op.meaning(jnp, *operands)
    inputs = op.reduction.inputs(jnp, *operands)
    terms = [jnp.broadcast_to(value, (model.size,)) for value in inputs]
    kind, method = op.reduction.kind, op.reduction.method
    if method == "sum":
        terms = [term * factors() for term in terms]
    if kind == Kind.SCALAR:
        totals = [term.sum() for term in terms]
    else:
        totals = [model.reduce_arrays(term, kind, method) for term in terms]
    return op.meaning(jnp, tuple(totals), *operands)


def undo_repetition(value: Array, factors: Array) -> Array:
    """Return the result of an op on the singular values of matrices with repeated numbers.

    A register holds a value of a smaller kind than tensor with its numbers repeated, so each matrix
    consists of equal rows, columns or numbers. Its result has the rows, columns or numbers of the
    result for the matrix without repetition, divided by the square root of the repetitions.

    Args:
        value: [weights], the result for the matrices with repetition.
        factors: [weights], one divided by the number of repetitions; a row of `sum_factors`.
    """
    return value / jnp.sqrt(factors)


def apply_inner(instruction: Instruction, operands: list[Array]) -> tuple[Op, list[Array]]:
    """Compute the inner op of a fused instruction; return the outer op and its operands.

    In a fused instruction, an inner op computes one operand of the outer op. Other instructions
    have only an outer op, whose operands are returned unchanged.
    """
    if instruction.inner is None:
        return instruction.op, operands
    start = instruction.position
    end = start + instruction.inner.arity
    inner_value = instruction.inner.meaning(jnp, *operands[start:end])
    return instruction.op, [*operands[:start], inner_value, *operands[end:]]


def scalar_value(
    group: tuple[Instruction, ...], operands: list[list[Array]], opcode: Array, factors: Any
) -> Array:
    """Return the value of one instruction of a group with scalar results.

    Args:
        group: the instructions.
        operands: the operands of each instruction of the group.
        opcode: the index in the group of the instruction whose value is returned.
        factors: a function that returns the row of `sum_factors` of this instruction, [weights].
    """

    def select(values: Sequence[Any]) -> Any:
        value = values[0]
        for index, other in enumerate(values[1:], 1):
            value = jnp.where(opcode == index, other, value)
        return value

    ops = [instruction.op for instruction in group]
    inputs = [
        op.reduction.inputs(jnp, *args) if op.reduction else ()
        for op, args in zip(ops, operands, strict=True)
    ]
    if any("T" in instruction.layout for instruction in group):  # sums over tensors
        element_factors = factors()
        terms = [select(values) * element_factors for values in zip(*inputs, strict=True)]
        inputs = [tuple(jnp.stack(terms).sum(-1))] * len(group)
    results = [
        op.meaning(jnp, *([totals] if op.reduction else []), *args)
        for op, args, totals in zip(ops, operands, inputs, strict=True)
    ]
    return jnp.asarray(select(results), jnp.float32)


def read(registers: Array, register: Array) -> Array:
    """Return one register: [weights] of the tensor registers or () of the scalar registers."""
    if registers.ndim == 1:
        number = lax.dynamic_slice(registers, (register,), (1,), allow_negative_indices=False)
        return number.reshape(())
    start = (register, np.int32(0))
    size = (1, registers.shape[1])
    return lax.dynamic_slice(registers, start, size, allow_negative_indices=False).reshape(-1)


def write(registers: Array, value: Array, register: Array | int) -> Array:
    """Return the tensor or scalar registers with `value` in the given register."""
    start = (register,) + (np.int32(0),) * (registers.ndim - 1)
    return lax.dynamic_update_slice(registers, value[None], start, allow_negative_indices=False)
