"""The reference interpreter: a plain interpreter over pytrees, which defines what programs mean.

Every value is stored at the size of its kind. For an array of shape (..., n, m) a tensor has that
shape, a row (..., n, 1) and a leaf one number; a scalar is one number for the whole model. With
`xp=jax.numpy` the interpreter is traced, so that a program can be compiled. With `xp=numpy` it
computes in float64; tests compare the other interpreters with that.
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
    """Return the states of `program` before the first step.

    Args:
        program: the program.
        params: a pytree of arrays, the weights.
        xp: `jax.numpy` for float32 or `numpy` for float64.

    Returns:
        An entry for each state, in the order in which the program returns the states. The entry is
        a number for a scalar, and otherwise a list with one array for each leaf of `params`, of
        the shape that `kinds.kind_shape` gives.

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
    """Run one step of `program`.

    Args:
        program: the program; it must pass `check`.
        state: the states, from `initial_state` or the previous step.
        params: a pytree of arrays of any shapes, the weights.
        grads: the gradients, a pytree with the structure of `params`.
        lr: the schedule at this step, relative to its peak; default 1.
        t: the number of this step, counted from 1.
        xp: `jax.numpy` for float32 or `numpy` for float64; the same as for `initial_state`.

    Returns:
        The update to subtract from the weights, with the structure and dtypes of `params`, and the
        states for the next step.

    Example:
        >>> from primitives import zoo
        >>> program, params = zoo.load("momentum"), np.ones(2)
        >>> state = initial_state(program, params, np)
        >>> update, state = step(program, state, params, np.array([1.0, -1.0]), lr=0.5, xp=np)
        >>> update
        array([ 0.5, -0.5])
    """
    return Stepper(program, xp).step(state, params, grads, lr=lr, t=t)


class Stepper:
    """Runs steps of one program; the function `step` prepares its program in each call.

    Args:
        program: the program; it must pass `check`.
        xp: `jax.numpy` for float32 or `numpy` for float64.
    """

    def __init__(self, program: Program, xp: Any = jnp):
        self._program = program
        self._xp = xp
        self._dtype = xp.float64 if xp is np else xp.float32
        analysis = analyse(program)
        self._outputs = analysis.outputs
        count = len(program.parameters) + len(program.statements)
        self._constants: list[Any] = []
        self._calls: list[tuple[Op, list[int]]] = []  # operands are indices of values
        for statement, operands in zip(program.statements, analysis.operands, strict=True):
            indices = []
            for operand in operands:
                if type(operand) is int:
                    indices.append(operand)
                else:
                    indices.append(count + len(self._constants))
                    self._constants.append(_constant(operand, self._dtype, xp))
            self._calls.append((OPS[statement.op], indices))

    def step(
        self, state: State, params: PyTree, grads: PyTree, *, lr: Any = 1.0, t: Any = 1.0
    ) -> tuple[PyTree, State]:
        """Run one step; arguments and results are those of the function `step`."""
        leaves, structure = jax.tree.flatten(params)
        shapes = [tuple(leaf.shape) for leaf in leaves]
        weights = matrix_views(leaves, self._dtype, self._xp)
        gradients = matrix_views(jax.tree.leaves(grads), self._dtype, self._xp)
        with np.errstate(all="ignore"):
            update, next_state = self.step_views(state, weights, gradients, shapes, lr=lr, t=t)
        arrays = [
            array.reshape(shape).astype(leaf.dtype)
            for array, shape, leaf in zip(update, shapes, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, arrays), next_state

    def step_views(
        self,
        state: State,
        weights: list[Any],
        gradients: list[Any],
        shapes: list[tuple[int, ...]],
        *,
        lr: Any = 1.0,
        t: Any = 1.0,
    ) -> tuple[list[Any], State]:
        """Run one step without conversion of the arrays, and with NumPy's floating-point warnings.

        Args:
            state: see `step`.
            weights: matrices that `matrix_views` returns for the leaves of the weights.
            gradients: the same for the gradients.
            shapes: the shapes of the leaves.
            lr: see `step`.
            t: see `step`.

        Returns:
            The update as matrices, and the states for the next step.
        """
        program, xp, dtype = self._program, self._xp, self._dtype
        inputs = {"lr": xp.asarray(lr, dtype), "t": xp.asarray(t, dtype)}
        values: list[Any] = [weights, gradients]
        old_states = dict(zip(program.returns[1:], state, strict=True))
        for parameter in program.parameters[2:]:
            state_value = old_states.get(parameter.name)
            values.append(inputs[parameter.name] if state_value is None else state_value)
        position = len(values)
        values += [None] * len(self._calls) + self._constants
        for op, operands in self._calls:
            value = _apply(op, [values[index] for index in operands], xp)
            values[position] = value if type(value) is list else xp.asarray(value, dtype)
            position += 1
        update = _broadcast(values[self._outputs[0]], Kind.TENSOR, shapes, xp)
        next_state = tuple(
            _broadcast(values[value], declared.kind, shapes, xp)
            for declared, value in zip(program.states, self._outputs[1:], strict=True)
        )
        return update, next_state


def _constant(value: float, dtype: Any, xp: Any) -> Any:
    """Return the float32 value of a constant, also where the computation is in float64."""
    return xp.asarray(np.float32(value), dtype)


def matrix_views(leaves: list[Any], dtype: Any, xp: Any) -> list[Any]:
    """Return arrays as matrices, or stacks of matrices, of a dtype."""
    return [xp.asarray(leaf, dtype).reshape(matrix_view(leaf.shape)) for leaf in leaves]


def _broadcast(value: Any, kind: Kind, shapes: list[tuple[int, ...]], xp: Any) -> Any:
    """Return `value` broadcast to the size of `kind`."""
    if kind == Kind.SCALAR:
        return value
    per_leaf = value if isinstance(value, list) else [value] * len(shapes)
    sizes = [kind_shape(kind, shape) for shape in shapes]
    return [
        array if array.shape == size else xp.broadcast_to(array, size)
        for array, size in zip(per_leaf, sizes, strict=True)
    ]


def _apply(op: Op, args: list[Any], xp: Any) -> Any:
    """Return the result of an op on operands that are lists (an array for each leaf) or scalars."""
    counts = [len(arg) for arg in args if type(arg) is list]
    if not counts:  # all operands are scalars
        return op.of_numbers(xp, *args)
    count = counts[0]
    leaf_args = list(
        zip(*[arg if type(arg) is list else [arg] * count for arg in args], strict=True)
    )
    if op.reduction is None:
        meaning = op.meaning
        return [meaning(xp, *leaf) for leaf in leaf_args]
    reduced = [_reduced(op, leaf, xp) for leaf in leaf_args]
    if op.reduction.kind == Kind.SCALAR:
        sums = tuple(sum(slot) for slot in zip(*reduced, strict=True))
        if not op.keeps_kind:
            return op.meaning(xp, sums, *args)
        reduced = [sums] * count
    return [op.meaning(xp, totals, *leaf) for totals, leaf in zip(reduced, leaf_args, strict=True)]


def _reduced(op: Op, args: tuple[Any, ...], xp: Any) -> tuple[Any, ...]:
    """Return the sums or means over one leaf.

    The results have size 1 along the reduced axes, or shape () for sums over the whole model.
    """
    assert op.reduction is not None
    inputs = op.reduction.inputs(xp, *xp.broadcast_arrays(*args))
    if op.reduction.kind == Kind.SCALAR:
        return tuple(x.sum() for x in inputs)
    axes = AXES[op.reduction.kind]
    reduce = xp.sum if op.reduction.method == "sum" else xp.mean
    return tuple(reduce(x, axis=axes, keepdims=True) for x in inputs)
