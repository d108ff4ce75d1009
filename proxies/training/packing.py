"""Pytrees of small host arrays as rows of words, so that one copy moves many of them to a device.

The cost of a copy to a device hardly depends on its size, and each array is a copy of its own.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax
from numpy.typing import NDArray

T = TypeVar("T")


class Packing:
    """The layout of pytrees of equal structure, shapes and dtypes as rows of 32-bit words.

    Args:
        example: a pytree with host arrays of 32-bit numbers.

    Attributes:
        words: number of words in a row.

    Raises:
        ValueError: an array does not have 32-bit numbers.

    Example:
        >>> packing = Packing((np.float32(0), np.zeros(2, np.int32)))
        >>> row = packing.pack((np.float32(1.5), np.array([2, 3], np.int32)))
        >>> packing.unpack(np.stack([row, row]))
        (array([1.5, 1.5], dtype=float32), array([[2, 3],
               [2, 3]], dtype=int32))
    """

    def __init__(self, example: Any):
        leaves, self._structure = jax.tree.flatten(example)
        arrays = [np.asarray(leaf) for leaf in leaves]
        if wrong := {str(array.dtype) for array in arrays if array.dtype.itemsize != 4}:
            raise ValueError(
                f"arrays of {', '.join(sorted(wrong))} cannot be packed; use float32, int32 or "
                "uint32"
            )
        self._shapes = [array.shape for array in arrays]
        self._dtypes = [array.dtype for array in arrays]
        sizes = [math.prod(shape) for shape in self._shapes]
        self._offsets = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
        self.words = self._offsets[-1]

    def pack(self, tree: Any) -> NDArray[np.uint32]:
        """Return the words of a pytree of host arrays, `[words]`.

        Raises:
            ValueError: the pytree does not have as many numbers as the example.
        """
        row = np.frombuffer(b"".join([leaf.tobytes() for leaf in jax.tree.leaves(tree)]), np.uint32)
        if len(row) != self.words:
            raise ValueError(f"the arrays have {len(row)} words and the example {self.words}")
        return row

    def unpack(self, rows: Any) -> Any:
        """Return the pytree in rows `[n, words]`; each array gets a first axis `[n]`.

        The rows are a host array, and so are then the results, or a JAX array.
        """
        parts = [rows[:, start:end] for start, end in pairwise(self._offsets)]
        if isinstance(rows, np.ndarray):
            numbers: list[Any] = [
                np.ascontiguousarray(part).view(dtype)
                for part, dtype in zip(parts, self._dtypes, strict=True)
            ]
        else:
            numbers = [
                lax.bitcast_convert_type(part, dtype)
                for part, dtype in zip(parts, self._dtypes, strict=True)
            ]
        arrays = [
            part.reshape(len(rows), *shape)
            for part, shape in zip(numbers, self._shapes, strict=True)
        ]
        return jax.tree.unflatten(self._structure, arrays)
