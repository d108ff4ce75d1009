"""The reference interpreter: the obvious one, over pytrees, which defines what a program means.

Every value is kept at its own size: for each array a tensor has the array's shape, a row
(..., n, 1), a leaf one number, and a scalar is one number for the whole model. With
`xp=jax.numpy` the interpreter is traced and compiled per program; with `xp=numpy` and float64 it is
what tests compare with.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from primitives.graph.analysis import analyse
from primitives.kinds import AXES, Kind, kind_shape, matrix_view
from primitives.op import Op
from primitives.ops import OPS
from primitives.program import Program

PyTree = Any
State = tuple[Any, ...]


def initial_state(program: Program, params: PyTree, xp: Any = jnp) -> State:
    """One entry for each state in the order returned: a list of arrays, or a number for a scalar.

    Arrays have float32 (float64 under NumPy) and the shapes of `kinds.kind_shape`.

    Example:
        >>> from primitives import zoo
        >>> initial_state(zoo.load("momentum"), np.ones(2), np)
        ([array([[0.],
               [0.]])],)
    """
    dtype = xp.float64 if xp is np else xp.float32
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(params)]

    def filled(kind: Kind, value: float) -> Any:
        if kind == Kind.SCALAR:
            return _constant(value, dtype, xp)
        return [xp.full(kind_shape(kind, shape), np.float32(value), dtype) for shape in shapes]

    return tuple(filled(state.kind, state.initial) for state in program.states)


def step(
    program: Program,
    state: State,
    params: PyTree,
    grads: PyTree,
    *,
    lr: Any = 1.0,
    t: Any = 1.0,
    xp: Any = jnp,
) -> tuple[PyTree, State]:
    """One step: the update to subtract, with the structure of `params`, and the next state.

    Args:
        program: what to run; must pass `check`.
        state: from `initial_state` or the step before.
        params: a pytree of arrays of any shape.
        grads: the same structure.
        lr: the schedule's shape at this step, peak 1.
        t: the step, counted from 1.
        xp: `jax.numpy` or `numpy`.

    Example:
        >>> from primitives import zoo
        >>> program, params = zoo.load("momentum"), np.ones(2)
        >>> state = initial_state(program, params, np)
        >>> update, state = step(program, state, params, np.array([1.0, -1.0]), lr=0.5, xp=np)
        >>> update
        array([ 0.5, -0.5])
    """
    analysis = analyse(program)
    leaves, structure = jax.tree.flatten(params)
    shapes = [tuple(leaf.shape) for leaf in leaves]
    dtype = xp.float64 if xp is np else xp.float32
    inputs = {"lr": xp.asarray(lr, dtype), "t": xp.asarray(t, dtype)}
    values: list[Any] = [_views(leaves, dtype, xp), _views(jax.tree.leaves(grads), dtype, xp)]
    entering = dict(zip(program.returns[1:], state, strict=True))
    for parameter in program.parameters[2:]:
        own = entering.get(parameter.name)
        values.append(inputs[parameter.name] if own is None else own)
    with np.errstate(all="ignore"):
        for statement, operands in zip(program.statements, analysis.operands, strict=True):
            args = [values[a] if type(a) is int else _constant(a, dtype, xp) for a in operands]
            value = _apply(OPS[statement.op], args, xp)
            values.append(value if isinstance(value, list) else xp.asarray(value, dtype))
    update = _spread(values[analysis.outputs[0]], Kind.TENSOR, shapes, xp)
    arrays = [
        array.reshape(shape).astype(leaf.dtype)
        for array, shape, leaf in zip(update, shapes, leaves, strict=True)
    ]
    following = tuple(
        _spread(values[value], declared.kind, shapes, xp)
        for declared, value in zip(program.states, analysis.outputs[1:], strict=True)
    )
    return jax.tree.unflatten(structure, arrays), following


def _constant(value: float, dtype: Any, xp: Any) -> Any:
    """A constant means its float32 value, in float64 too."""
    return xp.asarray(np.float32(value), dtype)


def _views(leaves: list[Any], dtype: Any, xp: Any) -> list[Any]:
    return [xp.asarray(leaf, dtype).reshape(matrix_view(leaf.shape)) for leaf in leaves]


def _spread(value: Any, kind: Kind, shapes: list[tuple[int, ...]], xp: Any) -> Any:
    """`value` broadcast to the size at which `kind` is kept."""
    if kind == Kind.SCALAR:
        return value
    per_leaf = value if isinstance(value, list) else [value] * len(shapes)
    return [
        xp.broadcast_to(array, kind_shape(kind, shape))
        for array, shape in zip(per_leaf, shapes, strict=True)
    ]


def _apply(op: Op, args: list[Any], xp: Any) -> Any:
    """One op on values that are lists (one array a leaf) or scalars."""
    if not any(isinstance(arg, list) for arg in args):  # a scalar is its own only number
        return op.of_numbers(xp, *args)
    count = next(len(arg) for arg in args if isinstance(arg, list))
    rows = [[arg[i] if isinstance(arg, list) else arg for arg in args] for i in range(count)]
    if op.reduction is None:
        return [op.meaning(xp, *row) for row in rows]
    reduced = [_reduced(op, row, xp) for row in rows]
    if op.reduction.scope == Kind.SCALAR:
        sums = tuple(sum(leaf) for leaf in zip(*reduced, strict=True))
        if not op.keeps_kind:
            return op.meaning(xp, sums, *args)
        reduced = [sums] * count
    return [op.meaning(xp, total, *row) for total, row in zip(reduced, rows, strict=True)]


def _reduced(op: Op, args: list[Any], xp: Any) -> tuple[Any, ...]:
    """The sums or means of one leaf, size 1 along the reduced axes; whole-model sums are ()."""
    assert op.reduction is not None
    inputs = op.reduction.inputs(xp, *xp.broadcast_arrays(*args))
    if op.reduction.scope == Kind.SCALAR:
        return tuple(x.sum() for x in inputs)
    axes = AXES[op.reduction.scope]
    reduce = xp.sum if op.reduction.how == "sum" else xp.mean
    return tuple(reduce(x, axis=axes, keepdims=True) for x in inputs)
