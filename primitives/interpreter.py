"""The compile-once interpreter: one compiled machine that runs every program as data.

`INTERPRETER` is an optax transformation whose state carries the register files and the encoded
program, so that a training loop compiled once trains with any program, learning rate and seed.
Blocks of scalar and of tensor instructions alternate; each instruction is one true branch
(`lax.switch`) that reads its operands from the file and returns one value, which is written into
the file in place. (A branch that returned the file would make XLA copy all of it.)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from primitives.encoding import (
    FIRST,
    KIND,
    NUMBER_INSTRUCTIONS,
    OPCODE,
    OUT,
    SCALAR_INSTRUCTIONS,
    SECTION,
    TENSOR_INSTRUCTIONS,
    Code,
    Instruction,
)
from primitives.kinds import AXES, Kind, kind_shape, matrix_view
from primitives.ops import Op

PyTree = Any
Array = jax.Array


class MachineState(NamedTuple):
    """What travels from step to step.

    Attributes:
        file: [registers, weights] float32; row 0 is the weights, row 1 the gradient.
        scalars: [registers] float32; 0 is lr, 1 is t.
        code: the program.
        factor: () float32, the learning rate: what the update is multiplied with.
    """

    file: Array
    scalars: Array
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
        self.share = jnp.asarray(
            [
                [math.prod(kind_shape(kind, s)) / max(1, math.prod(s)) for kind in Kind]
                for s in self.shapes
            ],
            jnp.float32,
        )  # [arrays, kinds]: how many own numbers a kind has, per broadcast element

    def ravel(self, tree: PyTree) -> Array:
        """All numbers of `tree` as one float32 vector [weights]."""
        return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(tree)])

    def unravel(self, vector: Array) -> PyTree:
        """The inverse of `ravel`, in the model's own shapes and dtypes."""
        leaves = [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(
                self.pieces(vector), self.shapes, self.dtypes, strict=True
            )
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def pieces(self, vector: Array) -> list[Array]:
        """The part of `vector` that belongs to each array."""
        return [vector[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def total(self, x: Array, kind: Array) -> Array:
        """Sum over the own numbers of a value of `kind` that is kept broadcast."""
        return self._sums(x, kind).sum()

    def _sums(self, x: Array, kind: Array) -> Array:
        share = lax.dynamic_index_in_dim(self.share, kind, axis=1, keepdims=False)
        sums: Array = jnp.stack([jnp.sum(piece) for piece in self.pieces(x)]) * share
        return sums

    def reduced(self, x: Array, scope: Kind, how: str, kind: Array) -> Array:
        """A reduction within each array, broadcast back to a vector [weights]."""
        if scope == Kind.LEAF and how == "sum":
            sums = self._sums(x, kind)
            parts = [jnp.broadcast_to(sums[i], (math.prod(s),)) for i, s in enumerate(self.shapes)]
            return jnp.concatenate(parts)
        axes = AXES[scope]
        parts = []
        for piece, shape in zip(self.pieces(x), self.shapes, strict=True):
            view = piece.reshape(matrix_view(shape))
            mean = jnp.mean(view, axis=axes, keepdims=True)
            parts.append(jnp.broadcast_to(mean, view.shape).reshape(-1))
        return jnp.concatenate(parts)


def _init(params: PyTree, code: Code, factor: Array | float = 1.0) -> MachineState:
    model = _Model(params)
    file = jnp.broadcast_to(jnp.asarray(code.rows)[:, None], (code.rows.shape[0], model.size))
    code = Code(*map(jnp.asarray, code))
    return MachineState(file, jnp.asarray(code.scalars), code, jnp.asarray(factor, jnp.float32))


def _update(
    grads: PyTree,
    state: MachineState,
    params: PyTree | None = None,
    *,
    lr: Array | float = 1.0,
    t: Array | float = 1.0,
    **_: Any,
) -> tuple[PyTree, MachineState]:
    if params is None:
        raise ValueError("the update of a program reads the weights; pass params")
    model = _Model(params)
    file = _written(state.file, model.ravel(params), 0)
    file = _written(file, model.ravel(grads), 1)
    scalars = state.scalars.at[:2].set(jnp.stack([jnp.float32(lr), jnp.float32(t)]))
    file, scalars = _run(model, state.code, file, scalars)
    updates = model.unravel(_read(file, state.code.update) * -state.factor)
    return updates, MachineState(file, scalars, state.code, state.factor)


def _run(model: _Model, code: Code, file: Array, scalars: Array) -> tuple[Array, Array]:
    """All instructions of one step."""
    program = code.instructions

    def field(i: Array, column: int) -> Array:
        start = (i, np.int32(column))
        cut = lax.dynamic_slice(program, start, (1, 1), allow_negative_indices=False)
        return cut.reshape(())

    def branches(table: tuple[Instruction, ...]) -> list[Any]:
        def branch(one: Instruction) -> Any:
            def compute(file: Array, scalars: Array, i: Array) -> Array:
                operands = [
                    _read(file if kept == "T" else scalars, field(i, FIRST + place))
                    for place, kept in enumerate(one.layout)
                ]
                value = _meaning(one, model, operands, lambda: field(i, KIND))
                shape = (model.size,) if one.result == "T" else ()
                return jnp.broadcast_to(value, shape).astype(jnp.float32)

            return compute

        return [branch(one) for one in table]

    tensor_branches = branches(TENSOR_INSTRUCTIONS)
    reductions = branches(SCALAR_INSTRUCTIONS[len(NUMBER_INSTRUCTIONS) :])

    def number(file: Array, scalars: Array, i: Array) -> Any:
        """Any op on numbers alone: computing all and keeping one takes one kernel, not fifty."""
        opcode = field(i, OPCODE)
        operands = [_read(scalars, field(i, FIRST + place)) for place in range(3)]
        value: Any = np.float32(0)
        for code, one in enumerate(NUMBER_INSTRUCTIONS):
            result = _meaning(one, model, operands[: len(one.layout)], lambda: field(i, KIND))
            value = jnp.where(opcode == code, result, value)
        return value

    def in_section(i: Array, section: int) -> Array:
        running: Array = i < code.length
        return running & (field(i, SECTION) == section)

    def block(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, file, scalars = carry

        def scalar(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, scalars = carry
            branch = jnp.maximum(field(i, OPCODE) - (len(NUMBER_INSTRUCTIONS) - 1), 0)
            value = lax.switch(branch, [number, *reductions], file, scalars, i)
            return i + 1, _written(scalars, value, field(i, OUT))

        i, scalars = lax.while_loop(lambda c: in_section(c[0], 1), scalar, (i, scalars))

        def tensor(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, file = carry
            value = lax.switch(field(i, OPCODE), tensor_branches, file, scalars, i)
            return i + 1, _written(file, value, field(i, OUT))

        i, file = lax.while_loop(lambda c: in_section(c[0], 0), tensor, (i, file))
        return i, file, scalars

    start: tuple[Any, Array, Array] = (np.int32(0), file, scalars)
    _, file, scalars = lax.while_loop(lambda c: c[0] < code.length, block, start)
    return file, scalars


def _meaning(one: Instruction, model: _Model, operands: list[Array], kind: Any) -> Any:
    if one.inner is None:
        return _apply(one.op, model, one.layout, operands, kind)
    end = one.position + one.inner.arity
    inner = one.inner.meaning(jnp, *operands[one.position : end])
    outer = [*operands[: one.position], inner, *operands[end:]]
    return one.op.meaning(jnp, *outer)


def _apply(op: Op, model: _Model, layout: str, operands: list[Array], kind: Any) -> Any:
    if op.reduction is None:
        return op.meaning(jnp, *operands)
    inputs = op.reduction.inputs(jnp, *operands)
    if "T" not in layout:
        return op.meaning(jnp, inputs, *operands)
    spread = [jnp.broadcast_to(x, (model.size,)) for x in inputs]
    if op.reduction.scope == Kind.SCALAR:
        totals = tuple(model.total(x, kind()) for x in spread)
    else:
        scope, how = op.reduction.scope, op.reduction.how
        totals = tuple(model.reduced(x, scope, how, kind()) for x in spread)
    return op.meaning(jnp, totals, *operands)


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


INTERPRETER = optax.GradientTransformationExtraArgs(_init, _update)  # type: ignore[arg-type]
"""The rule that runs any program: `init(params, code, factor)`, then `update(..., lr=, t=)`."""
