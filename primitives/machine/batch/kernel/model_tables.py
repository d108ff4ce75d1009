"""Where the arrays and matrices of a model begin."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from primitives.kinds import Kind, matrix_view
from primitives.machine.arrays import ArrayLayout


class ModelTables(NamedTuple):
    """Where the arrays and matrices of a model begin, as tables that the kernel reads.

    Attributes:
        ranges: [entries] int32, the offsets of the ranges of each kind in `range_starts`.
        range_starts: for the kinds scalar, leaf and matrix, the index in `ranges` of the kind's
            first offset, and the number of ranges. Range n goes from offset n to offset n + 1.
        matrices: [matrices, 3] int32, the offset, rows and columns of each matrix.
        largest_matrix: the number of weights of the largest matrix.
    """

    ranges: np.ndarray
    range_starts: dict[Kind, tuple[int, int]]
    matrices: np.ndarray
    largest_matrix: int


def tables_of(model: ArrayLayout) -> ModelTables:
    """Return the tables of a model."""
    matrices = []
    for offset, shape in zip(model.offsets[:-1], model.shapes, strict=True):
        *batch, rows, columns = matrix_view(shape)
        count, size = math.prod(batch), rows * columns
        matrices += [(int(offset) + size * number, rows, columns) for number in range(count)]
    offsets = {
        Kind.SCALAR: [0, model.size],
        Kind.LEAF: list(model.offsets),
        Kind.MATRIX: [*(offset for offset, *_ in matrices), model.size],
    }
    range_starts: dict[Kind, tuple[int, int]] = {}
    ranges: list[int] = []
    for kind, of_kind in offsets.items():
        range_starts[kind] = len(ranges), len(of_kind) - 1
        ranges += of_kind
    largest = max(rows * columns for _, rows, columns in matrices)
    table = np.array(matrices, np.int32)
    return ModelTables(np.array(ranges, np.int32), range_starts, table, largest)
