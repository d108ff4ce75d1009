"""The arrays of a model, concatenated into one vector, and reductions within each array.

Brackets give shapes: [weights] has one element for each weight of the model.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from primitives.kinds import AXES, Kind, kind_shape, matrix_view
from primitives.op import Op

PyTree = Any
Array = jax.Array


class ArrayLayout:
    """The layout of a model's arrays in a vector [weights].

    Args:
        params: a pytree of arrays.

    Attributes:
        structure: the tree structure of `params`.
        shapes: the arrays' shapes.
        dtypes: the arrays' dtypes.
        offsets: [arrays + 1], the index at which each array begins, and the number of weights.
        size: the number of weights.
    """

    def __init__(self, params: PyTree):
        leaves, self.structure = jax.tree.flatten(params)
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.offsets = np.cumsum([0] + [math.prod(shape) for shape in self.shapes])
        self.size = int(self.offsets[-1])

    def sum_factors(self) -> Array:
        """Return, for each kind, factors that undo repetition in sums; [kinds, weights].

        A value of a smaller kind than tensor is stored broadcast to the shape of the weights. Its
        factor in an array is the number of its elements there before broadcasting, divided by
        the array's size. The weighted sum is then the sum over the elements before broadcasting.
        """
        parts = []
        for shape in self.shapes:
            size = math.prod(shape)
            factors = [math.prod(kind_shape(kind, shape)) / max(1, size) for kind in Kind]
            parts.append(jnp.broadcast_to(jnp.float32(factors)[:, None], (len(Kind), size)))
        return jnp.concatenate(parts, axis=1)

    def write_tree(self, tensors: Array, tree: PyTree, register: int) -> Array:
        """Return the tensor registers with the arrays of `tree` in one of them, as float32.

        Args:
            tensors: [registers, weights].
            tree: a pytree with the structure of `params`.
            register: the index of the register.

        The arrays are written one by one. If the arrays were concatenated first, XLA's kernel
        would look up for every element which array the element comes from.
        """
        for leaf, start in zip(jax.tree.leaves(tree), self.offsets[:-1], strict=True):
            numbers = jnp.ravel(leaf).astype(jnp.float32)[None]
            tensors = lax.dynamic_update_slice(tensors, numbers, (register, int(start)))
        return tensors

    def unravel(self, vector: Array) -> PyTree:
        """Return a vector [weights] as a pytree with the shapes and dtypes of `params`."""
        leaves = [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(
                self.pieces(vector), self.shapes, self.dtypes, strict=True
            )
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def pieces(self, x: Array) -> list[Array]:
        """Split a vector [weights] into one part for each array."""
        return [x[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    def apply_to_matrices(self, op: Op, operands: list[Array]) -> Array:
        """Return the result [weights] of an op that acts on the trailing matrices of each array."""
        parts = []
        for *pieces, shape in zip(*map(self.pieces, operands), self.shapes, strict=True):
            views = [piece.reshape(matrix_view(shape)) for piece in pieces]
            parts.append(op.meaning(jnp, *views).reshape(-1))
        return jnp.concatenate(parts)

    def reduce_arrays(self, x: Array, kind: Kind, how: str) -> Array:
        """Reduce within each array and broadcast the results to a vector [weights].

        Args:
            x: [weights].
            kind: the kind to reduce to: row, column, matrix or leaf.
            how: "sum" or "mean".
        """
        reduction = jnp.sum if how == "sum" else jnp.mean
        parts = []
        for piece, shape in zip(self.pieces(x), self.shapes, strict=True):
            view = piece.reshape(matrix_view(shape))
            value = reduction(view, axis=AXES[kind], keepdims=True)
            parts.append(jnp.broadcast_to(value, view.shape).reshape(-1))
        return jnp.concatenate(parts)
