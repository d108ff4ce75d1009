"""The arrays of a model laid out one after the other in a vector, and reductions over them."""

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
    """Where each array of `params` lies in a vector [weights] of all of them.

    Attributes:
        shapes: of the arrays.
        bounds: [arrays + 1], where each begins; the last is where they end.
        size: weights in all.
    """

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
