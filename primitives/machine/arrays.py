"""The arrays of a model, concatenated to one vector, and reductions within each array."""

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


class Arrays:
    """The layout of a model's arrays in a vector [weights].

    Args:
        params: a pytree of arrays.

    Attributes:
        structure: the tree structure of `params`.
        shapes: the arrays' shapes.
        dtypes: the arrays' dtypes.
        bounds: [arrays + 1], the index at which each array begins, and the end of the last.
        size: the number of weights.
    """

    def __init__(self, params: PyTree):
        leaves, self.structure = jax.tree.flatten(params)
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.bounds = np.cumsum([0] + [math.prod(shape) for shape in self.shapes])
        self.size = int(self.bounds[-1])

    def sum_factors(self) -> Array:
        """Return the factor of each element in a sum over a broadcast value, [kinds, weights].

        A value of a smaller kind is broadcast to the weights for computing. The factor is the
        number of its own elements in an array divided by the array's size, so that the weighted
        sum over the broadcast elements is the sum over the value's own elements.
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

        The arrays are written one by one. If they were concatenated first, XLA's kernel would
        look up for every element which array it comes from.
        """
        for leaf, start in zip(jax.tree.leaves(tree), self.bounds[:-1], strict=True):
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
        """Split a vector [weights] into the parts of the arrays."""
        return [x[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def matrixwise(self, op: Op, operands: list[Array]) -> Array:
        """Return the result [weights] of an op that acts on the trailing matrices of each array."""
        parts = []
        for *pieces, shape in zip(*map(self.pieces, operands), self.shapes, strict=True):
            views = [piece.reshape(matrix_view(shape)) for piece in pieces]
            parts.append(op.meaning(jnp, *views).reshape(-1))
        return jnp.concatenate(parts)

    def reduce_arrays(self, x: Array, scope: Kind, how: str) -> Array:
        """Reduce within each array and broadcast the results to a vector [weights].

        Args:
            x: [weights].
            scope: the kind to reduce to, smaller than a tensor and larger than a scalar.
            how: "sum" or "mean".
        """
        reduction = jnp.sum if how == "sum" else jnp.mean
        parts = []
        for piece, shape in zip(self.pieces(x), self.shapes, strict=True):
            view = piece.reshape(matrix_view(shape))
            value = reduction(view, axis=AXES[scope], keepdims=True)
            parts.append(jnp.broadcast_to(value, view.shape).reshape(-1))
        return jnp.concatenate(parts)
