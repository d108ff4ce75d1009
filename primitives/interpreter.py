"""The compile-once interpreter: one compiled machine that runs every program as data.

`interpreter(ops)` is an optax transformation whose state carries the register files and the encoded
program, so that a training loop compiled once trains with any program, learning rate and seed.
Blocks of scalar and of tensor instructions alternate. Each tensor instruction is one true branch
(`lax.switch`) that reads its operands from the file and returns one value, which is written into
the file in place. (A branch that returned the file would make XLA copy all of it.) Instructions
that give a number share a few branches, which compute all of theirs and keep one: cheap to run on
numbers, and far cheaper to compile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from primitives.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.instructions import ALL_OPS, Instruction, InstructionSet, OpNames, instruction_set
from primitives.kinds import AXES, Kind, kind_shape, matrix_view
from primitives.op import Op

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


class _Model:
    """The arrays of a model laid out one after the other, and reductions over them."""

    def __init__(self, params: PyTree):
        leaves, self.structure = jax.tree.flatten(params)
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.bounds = np.cumsum([0] + [math.prod(shape) for shape in self.shapes])
        self.size = int(self.bounds[-1])

    def share(self) -> Array:
        """For every kind and weight the own numbers of a value per broadcast element."""
        parts = []
        for shape in self.shapes:
            size = math.prod(shape)
            own = [math.prod(kind_shape(kind, shape)) / max(1, size) for kind in Kind]
            parts.append(jnp.broadcast_to(jnp.float32(own)[:, None], (len(Kind), size)))
        return jnp.concatenate(parts, axis=1)

    def enter(self, file: Array, tree: PyTree, register: int) -> Array:
        """The file with all numbers of `tree` in a register, as float32.

        Array by array: joining them first would test for each number which array it comes from.
        """
        for leaf, start in zip(jax.tree.leaves(tree), self.bounds[:-1], strict=True):
            numbers = jnp.ravel(leaf).astype(jnp.float32)[None]
            file = lax.dynamic_update_slice(file, numbers, (register, int(start)))
        return file

    def unravel(self, vector: Array) -> PyTree:
        """A register's numbers [weights] as a tree, in the model's own shapes and dtypes."""
        leaves = [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(
                self.pieces(vector), self.shapes, self.dtypes, strict=True
            )
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def pieces(self, x: Array) -> list[Array]:
        """The part of `x`, [weights], that belongs to each array."""
        return [x[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def matrixwise(self, op: Op, operands: list[Array]) -> Array:
        """An op on the trailing matrices of each array."""
        parts = []
        for *pieces, shape in zip(*map(self.pieces, operands), self.shapes, strict=True):
            views = [piece.reshape(matrix_view(shape)) for piece in pieces]
            parts.append(op.meaning(jnp, *views).reshape(-1))
        return jnp.concatenate(parts)

    def reduced(self, x: Array, scope: Kind, how: str) -> Array:
        """A reduction within each array, broadcast back to a vector [weights]."""
        reduce = jnp.sum if how == "sum" else jnp.mean
        parts = []
        for piece, shape in zip(self.pieces(x), self.shapes, strict=True):
            view = piece.reshape(matrix_view(shape))
            value = reduce(view, axis=AXES[scope], keepdims=True)
            parts.append(jnp.broadcast_to(value, view.shape).reshape(-1))
        return jnp.concatenate(parts)


def _init(params: PyTree, code: Code, factor: Array | float = 1.0) -> MachineState:
    model = _Model(params)
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
    model = _Model(params)
    file = model.enter(model.enter(state.file, params, 0), grads, 1)
    scalars = state.scalars.at[:2].set(jnp.stack([jnp.float32(lr), jnp.float32(t)]))
    file, scalars = _run(instructions, model, state.code, state.share, file, scalars)
    update = _read(file, state.code.update) * _read(scalars, state.code.scale)
    updates = model.unravel(update * -state.factor)
    return updates, state._replace(file=file, scalars=scalars)


def _run(
    instructions: InstructionSet,
    model: _Model,
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
            _read(file if kept == "T" else scalars, field(i, FIRST + place))
            for place, kept in enumerate(one.layout)
        ]

    def own(i: Array) -> Array:
        return _read(share, field(i, KIND))

    def tensor_branch(one: Instruction) -> Any:
        def compute(file: Array, scalars: Array, i: Array) -> Array:
            value = _tensor(one, model, operands(one, file, scalars, i), lambda: own(i))
            return jnp.broadcast_to(value, (model.size,)).astype(jnp.float32)

        return compute

    def scalar_branch(group: tuple[Instruction, ...]) -> Any:
        def compute(file: Array, scalars: Array, i: Array) -> Array:
            known = [operands(one, file, scalars, i) for one in group]
            return _number(group, known, field(i, OPCODE), lambda: own(i))

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
            return i + 1, _written(scalars, value, field(i, OUT))

        i, scalars = lax.while_loop(lambda c: in_section(c[0], True), scalar, (i, scalars))

        def tensor(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, file = carry
            value = lax.switch(field(i, OPCODE), tensor_branches, file, scalars, i)
            return i + 1, _written(file, value, field(i, OUT))

        i, file = lax.while_loop(lambda c: in_section(c[0], False), tensor, (i, file))
        return i, file, scalars

    start: tuple[Any, Array, Array] = (np.int32(0), file, scalars)
    _, file, scalars = lax.while_loop(lambda c: c[0] < code.length, block, start)
    return file, scalars


def _tensor(one: Instruction, model: _Model, operands: list[Array], own: Any) -> Any:
    """The value of an instruction that gives a tensor register.

    `own()` is what its operands' own numbers weigh in a sum, [weights].
    """
    if one.inner:
        end = one.position + one.inner.arity
        inner = one.inner.meaning(jnp, *operands[one.position : end])
        operands = [*operands[: one.position], inner, *operands[end:]]
    if one.op.matrixwise:
        return model.matrixwise(one.op, operands)
    if one.op.reduction is None:
        return one.op.meaning(jnp, *operands)
    inputs = one.op.reduction.inputs(jnp, *operands)
    spread = [jnp.broadcast_to(x, (model.size,)) for x in inputs]
    scope, how = one.op.reduction.scope, one.op.reduction.how
    if how == "sum":
        spread = [x * own() for x in spread]
    if scope == Kind.SCALAR:
        totals = [x.sum() for x in spread]
    else:
        totals = [model.reduced(x, scope, how) for x in spread]
    return one.op.meaning(jnp, tuple(totals), *operands)


def _number(
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


def _read(file: Array, register: Array) -> Array:
    """One register of a file: a vector, or a number from the scalar file."""
    if file.ndim == 1:
        return lax.dynamic_slice(file, (register,), (1,), allow_negative_indices=False).reshape(())
    start = (register, np.int32(0))
    row = lax.dynamic_slice(file, start, (1, file.shape[1]), allow_negative_indices=False)
    return row.reshape(-1)


def _written(file: Array, value: Array, register: Array | int) -> Array:
    start = (register,) + (np.int32(0),) * (file.ndim - 1)
    return lax.dynamic_update_slice(file, value[None], start, allow_negative_indices=False)


@cache
def interpreter(ops: OpNames = ALL_OPS) -> optax.GradientTransformationExtraArgs:
    """The rule for any program of `ops`: `init(params, code, factor)`, `update(..., lr=, t=)`.

    The code is that of `encode(program, ops)`. Equal `ops` give the same object, so that a jitted
    function which takes it as a static argument is compiled once.
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
