"""Matrices of the model in the kernel: their tiles, and products block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from primitives.machine.batch.kernel.tiles import Tile, for_each, load, store
from primitives.machine.step import undo_repetition
from primitives.op import MatrixIteration
from primitives.ops.functions import divide

Array = jax.Array
Ref = Any

BLOCK = 16
"""Rows and columns of the blocks of a matrix in matrix products.

Larger blocks need more registers for each thread, so that fewer lanes run side by side.
"""
_PRECISION = "highest"
"""Precision of matrix products: float32, without tensor cores."""
_NO_WEIGHT = 2**30
"""An index beyond all weights."""


class Matrix(NamedTuple):
    """Where the weights of a matrix are, as offset and strides in a vector."""

    offset: Any
    rows: Any
    columns: Any
    row_stride: Any
    column_stride: Any

    def tile(self, row: Any, column: Any, shape: tuple[int, int]) -> Tile:
        """Return the tile in a row and column of tiles; `inside` marks the matrix's weights."""
        rows = row * shape[0] + lax.broadcasted_iota(jnp.int32, shape, 0)
        columns = column * shape[1] + lax.broadcasted_iota(jnp.int32, shape, 1)
        index = self.offset + rows * self.row_stride + columns * self.column_stride
        inside = (rows < self.rows) & (columns < self.columns)
        # Outside the matrix, the index may be that of another weight of the tile. The interpreter
        # of kernels would then write this weight twice.
        return Tile(jnp.where(inside, index, _NO_WEIGHT), inside)

    def at(self, offset: Any) -> Matrix:
        """Return a matrix of the same shape that begins at `offset`, stored row by row."""
        return Matrix(offset, self.rows, self.columns, self.columns, 1)

    def transposed(self) -> Matrix:
        """Return the transposed matrix."""
        sides = self.columns, self.rows
        return Matrix(self.offset, *sides, self.column_stride, self.row_stride)

    def with_fewer_rows_than_columns(self) -> Matrix:
        """Return the matrix, or the transposed matrix if it has more rows than columns."""
        is_tall = self.rows > self.columns
        fields = zip(self, self.transposed(), strict=True)
        return Matrix(*(jnp.where(is_tall, transposed, own) for own, transposed in fields))


@dataclass(frozen=True)
class Stored:
    """A matrix in one row of a memory, such as a tensor register of a lane."""

    memory: Ref
    row: tuple[Array, ...]
    matrix: Matrix

    def load(self, row: Any, column: Any) -> Array:
        """Return the block in a row and column of blocks, with zeros outside the matrix."""
        return load(self.memory, self.row, self.matrix.tile(row, column, (BLOCK, BLOCK)))

    def store(self, row: Any, column: Any, value: Array) -> None:
        """Write the block in a row and column of blocks."""
        store(self.memory, self.row, self.matrix.tile(row, column, (BLOCK, BLOCK)), value)

    def with_matrix(self, matrix: Matrix) -> Stored:
        """Return a matrix in the same row of the memory."""
        return Stored(self.memory, self.row, matrix)


def iterate(
    iteration: MatrixIteration,
    operand: Stored,
    result: Stored,
    scratch: Sequence[Stored],
    repetition_factor: Array,
    wait: Callable[[], None],
) -> None:
    """Write the result of an iteration on the singular values of one matrix.

    Args:
        iteration: the iteration.
        operand: the matrix.
        result: where to write; may be the operand.
        scratch: memory for three matrices of the operand's size.
        repetition_factor: () float32, the operand's factor; see `primitives.machine.step`.
        wait: function that waits until the writes of all threads are visible to all threads.
    """
    wide = operand.matrix.with_fewer_rows_than_columns()
    square = Matrix(0, wide.rows, wide.rows, wide.rows, 1)
    x, u = operand.with_matrix(wide), result.with_matrix(wide)
    u_transposed = result.with_matrix(wide.transposed())
    gram, factor, next_u = (
        area.with_matrix(matrix.at(area.matrix.offset))
        for area, matrix in zip(scratch, (square, square, wide), strict=True)
    )
    a, b, c = iteration.coefficients

    def write(target: Stored, value: Callable[[Array, Array], Array]) -> None:
        def write_block(row: Array, column: Array, carry: int) -> int:
            target.store(row, column, value(row, column))
            return carry

        _fold_blocks(target, write_block, 0)
        wait()

    def add_squares(row: Array, column: Array, total: Array) -> Array:
        return total + x.load(row, column) ** 2

    zeros = jnp.zeros((BLOCK, BLOCK), jnp.float32)
    norm = jnp.sqrt(jnp.sum(_fold_blocks(x, add_squares, zeros)))
    write(next_u, lambda *block: divide(jnp, x.load(*block), norm))
    write(u, next_u.load)

    def step(_: Array) -> None:
        write(gram, lambda *block: _product(u, u_transposed, *block))
        write(factor, lambda *block: b * gram.load(*block) + c * _product(gram, gram, *block))
        write(next_u, lambda *block: a * u.load(*block) + _product(factor, u, *block))
        write(u, next_u.load)

    for_each(0, iteration.steps, step)
    write(u, lambda *block: undo_repetition(u.load(*block), repetition_factor))


def _product(left: Stored, right: Stored, row: Any, column: Any) -> Array:
    """Return a block of the product of two matrices."""

    def add(k: Array, total: Array) -> Array:
        block = jnp.dot(left.load(row, k), right.load(k, column), precision=_PRECISION)
        return total + block

    zeros = jnp.zeros((BLOCK, BLOCK), jnp.float32)
    product: Array = lax.fori_loop(0, pl.cdiv(left.matrix.columns, BLOCK), add, zeros)
    return product


def _fold_blocks(stored: Stored, act: Callable[[Array, Array, Any], Any], start: Any) -> Any:
    """Return `act(row, column, value)` of all blocks of a matrix, one after another."""
    columns = pl.cdiv(stored.matrix.columns, BLOCK)

    def on_block(number: Array, value: Any) -> Any:
        return act(number // columns, number % columns, value)

    return lax.fori_loop(0, pl.cdiv(stored.matrix.rows, BLOCK) * columns, on_block, start)
