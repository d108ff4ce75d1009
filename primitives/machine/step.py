"""One step of one program: its instructions, one after the other, over files of registers.

Blocks of scalar and of tensor instructions alternate. Each tensor instruction is one true branch
(`lax.switch`) that reads its operands from the file and returns one value, which is written into
the file in place. (A branch that returned the file would make XLA copy all of it.) Instructions
that give a number share a few branches, which compute all of theirs and keep one: cheap to run on
numbers, and far cheaper to compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from primitives.kinds import Kind
from primitives.machine.arrays import Arrays
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.op import Op

Array = jax.Array


def run(
    instructions: InstructionSet,
    model: Arrays,
    code: Code,
    share: Array,
    file: Array,
    scalars: Array,
) -> tuple[Array, Array]:
    """All instructions of one step."""
    program = code.instructions

    def field(i: Array, column: int) -> Array:
        start = (i, np.int32(column))
        cut = lax.dynamic_slice(program, start, (1, 1), allow_negative_indices=False)
        return cut.reshape(())

    def operands(one: Instruction, file: Array, scalars: Array, i: Array) -> list[Array]:
        return [
            read(file if kept == "T" else scalars, field(i, FIRST + place))
            for place, kept in enumerate(one.layout)
        ]

    def own(i: Array) -> Array:
        return read(share, field(i, KIND))

    def tensor_branch(one: Instruction) -> Any:
        def compute(file: Array, scalars: Array, i: Array) -> Array:
            value = tensor_value(one, model, operands(one, file, scalars, i), lambda: own(i))
            return jnp.broadcast_to(value, (model.size,)).astype(jnp.float32)

        return compute

    def scalar_branch(group: tuple[Instruction, ...]) -> Any:
        def compute(file: Array, scalars: Array, i: Array) -> Array:
            known = [operands(one, file, scalars, i) for one in group]
            return number_value(group, known, field(i, OPCODE), lambda: own(i))

        return compute

    tensor_branches = [tensor_branch(one) for one in instructions.tensors]
    scalar_branches = [scalar_branch(group) for group in instructions.scalars]

    def in_section(i: Array, scalar: bool) -> Array:
        running: Array = i < code.length
        return running & ((field(i, SECTION) > 0) == scalar)

    def block(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, file, scalars = carry

        def scalar(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, scalars = carry
            value = lax.switch(field(i, SECTION) - 1, scalar_branches, file, scalars, i)
            return i + 1, written(scalars, value, field(i, OUT))

        i, scalars = lax.while_loop(lambda c: in_section(c[0], True), scalar, (i, scalars))

        def tensor(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, file = carry
            value = lax.switch(field(i, OPCODE), tensor_branches, file, scalars, i)
            return i + 1, written(file, value, field(i, OUT))

        i, file = lax.while_loop(lambda c: in_section(c[0], False), tensor, (i, file))
        return i, file, scalars

    start: tuple[Any, Array, Array] = (np.int32(0), file, scalars)
    _, file, scalars = lax.while_loop(lambda c: c[0] < code.length, block, start)
    return file, scalars


def tensor_value(one: Instruction, model: Arrays, operands: list[Array], own: Any) -> Any:
    """The value of an instruction that gives a tensor register.

    `own()` is what its operands' own numbers weigh in a sum, [weights].
    """
    op, operands = inner_applied(one, operands)
    if op.matrixwise:
        return model.matrixwise(one.op, operands)
    if op.reduction is None:
        return op.meaning(jnp, *operands)
    inputs = op.reduction.inputs(jnp, *operands)
    spread = [jnp.broadcast_to(x, (model.size,)) for x in inputs]
    scope, how = op.reduction.scope, op.reduction.how
    if how == "sum":
        spread = [x * own() for x in spread]
    if scope == Kind.SCALAR:
        totals = [x.sum() for x in spread]
    else:
        totals = [model.reduced(x, scope, how) for x in spread]
    return op.meaning(jnp, tuple(totals), *operands)


def inner_applied(one: Instruction, operands: list[Array]) -> tuple[Op, list[Array]]:
    """The op of an instruction and its own operands, after the inner op if it has one."""
    if one.inner is None:
        return one.op, operands
    end = one.position + one.inner.arity
    inner = one.inner.meaning(jnp, *operands[one.position : end])
    return one.op, [*operands[: one.position], inner, *operands[end:]]


def number_value(
    group: tuple[Instruction, ...], operands: list[list[Array]], opcode: Array, own: Any
) -> Array:
    """The value of the instruction `opcode` of a group that gives a number; `own` as above."""

    def chosen(values: Sequence[Any]) -> Any:
        value = values[0]
        for number, other in enumerate(values[1:], 1):
            value = jnp.where(opcode == number, other, value)
        return value

    pairs = list(zip(group, operands, strict=True))
    inputs = [
        one.op.reduction.inputs(jnp, *args) if one.op.reduction else () for one, args in pairs
    ]
    if any("T" in one.layout for one in group):
        weights = own()
        summed = [chosen(slot) * weights for slot in zip(*inputs, strict=True)]
        inputs = [tuple(jnp.stack(summed).sum(-1))] * len(group)
    meanings = [
        one.op.meaning(jnp, *([own] if one.op.reduction else []), *args)
        for (one, args), own in zip(pairs, inputs, strict=True)
    ]
    return jnp.asarray(chosen(meanings), jnp.float32)


def read(file: Array, register: Array) -> Array:
    """One register of a file: a vector, or a number from the scalar file."""
    if file.ndim == 1:
        return lax.dynamic_slice(file, (register,), (1,), allow_negative_indices=False).reshape(())
    start = (register, np.int32(0))
    row = lax.dynamic_slice(file, start, (1, file.shape[1]), allow_negative_indices=False)
    return row.reshape(-1)


def written(file: Array, value: Array, register: Array | int) -> Array:
    """The file with `value` in one register."""
    start = (register,) + (np.int32(0),) * (file.ndim - 1)
    return lax.dynamic_update_slice(file, value[None], start, allow_negative_indices=False)
