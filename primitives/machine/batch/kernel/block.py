"""The work of one block of threads: the program of one lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from primitives.kinds import Kind
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.kernel.matrices import Matrix, Stored, iterate
from primitives.machine.batch.kernel.model_tables import ModelTables
from primitives.machine.batch.kernel.tiles import Tile, Tiles, for_each, load, store, tiles_of
from primitives.machine.batch.kernel.work import Work
from primitives.machine.encoding import FIRST, KIND, OUT
from primitives.machine.instructions import Instruction
from primitives.machine.step import apply_inner

Array = jax.Array
Ref = Any

ROWS, COLUMNS = 16, 64
"""Size of a tile of a matrix, for sums over rows or columns."""


class Arguments(NamedTuple):
    """What the kernel reads and does not write.

    Attributes:
        program: [lanes, instructions, columns], the lanes' programs.
        length: [lanes], the number of instructions of each lane.
        dispatch: [lanes, instructions, 3], the work of each instruction; see `Branches.table`.
        update_registers: [lanes, 2], the index of the tensor register that holds the update, and of
            the scalar register that multiplies it.
        ranges: [entries]; see `ModelTables`.
        matrices: [matrices, 3]; see `ModelTables`.
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        numbers: [lanes, 3]: lr, t and the learning rate that multiplies the update.
        weights: for each array of the model, [lanes, weights of the array].
        grads: the gradients, as `weights`.
    """

    program: Any
    length: Any
    dispatch: Any
    update_registers: Any
    ranges: Any
    matrices: Any
    sum_factors: Any
    numbers: Any
    weights: Any
    grads: Any


@dataclass(frozen=True)
class Block:
    """The work of the block of threads of one lane.

    Attributes:
        lane: () int32, the index of the lane.
        by_kind_of_work: the instructions of each kind of work.
        tables: where the arrays and matrices of the model begin.
        model: the layout of the model.
        interpret: whether JAX interprets the kernel.
        arguments: what the kernel reads.
        next_index: [lanes], the index of the lane's next instruction.
        tensors: [lanes, registers, weights].
        scalars: [lanes, registers].
        scratch: [lanes, entries], memory for three matrices.
    """

    lane: Array
    by_kind_of_work: dict[Work, list[Instruction]]
    tables: ModelTables
    model: ArrayLayout
    interpret: bool
    arguments: Arguments
    next_index: Ref
    tensors: Ref
    scalars: Ref
    scratch: Ref

    def run(self, updates: Sequence[Ref]) -> None:
        """Run the lane's program from its next instruction as far as possible.

        Args:
            updates: for each array of the model, [lanes, weights of the array]; written when the
                program has ended.
        """
        first = self.next_index[self.lane]
        pl.when(first == 0)(self._write_inputs)
        self._wait()
        last = lax.while_loop(self._may_run, self._run_from, first)
        self.next_index[self.lane] = last
        pl.when(last >= self._length)(partial(self._read_updates, updates))

    def _write_inputs(self) -> None:
        """Write lr, t, the weights and the gradients to the registers."""
        for register in range(2):
            self.scalars[self.lane, register] = self.arguments.numbers[self.lane, register]
        for register, arrays in enumerate((self.arguments.weights, self.arguments.grads)):
            row = self.lane, jnp.int32(register)
            for array, offset in zip(arrays, self.model.offsets[:-1], strict=True):

                def copy(own: Tile, tile: Tile, row: Any = row, array: Ref = array) -> None:
                    store(self.tensors, row, tile, load(array, (self.lane,), own))

                _for_each_tile(int(offset), array.shape[1], copy)

    def _read_updates(self, updates: Sequence[Ref]) -> None:
        """Write the updates from the registers."""
        register, scale = (
            self.arguments.update_registers[self.lane, column] for column in range(2)
        )
        factor = -self.arguments.numbers[self.lane, 2]
        for array, offset in zip(updates, self.model.offsets[:-1], strict=True):

            def copy(own: Tile, tile: Tile, array: Ref = array) -> None:
                update = load(self.tensors, (self.lane, register), tile)
                values = update * self.scalars[self.lane, scale] * factor
                store(array, (self.lane,), own, values)

            _for_each_tile(int(offset), array.shape[1], copy)

    @property
    def _length(self) -> Array:
        """Number of instructions of the lane's program."""
        length: Array = self.arguments.length[self.lane]
        return length

    def _may_run(self, i: Array) -> Array:
        """Whether instruction `i` exists and runs in the kernel."""
        exists: Array = i < self._length
        last = self.arguments.dispatch.shape[1] - 1
        return exists & (self._work(jnp.minimum(i, last)) != Work.OUTSIDE)

    def _run_from(self, i: Array) -> Array:
        """Run instruction `i`, or the elementwise sequence at `i`; return the next index."""
        runners = [
            self._elementwise,
            self._scalar,
            self._sum_to_scalar,
            self._sum_per_range,
            self._sum_per_line,
            self._iterate_matrices,
        ]
        branches = [
            runner if self.by_kind_of_work[Work(work)] else _skip
            for work, runner in enumerate(runners)
        ]
        next_index: Array = lax.switch(self._work(i), branches, i)
        self._wait()
        return next_index

    def _elementwise(self, i: Array) -> Array:
        """Run the sequence of elementwise instructions that begins at `i`, tile by tile."""

        def is_elementwise(j: Array) -> Array:
            exists: Array = j < self._length
            return exists & (self._work(jnp.minimum(j, self._length - 1)) == Work.ELEMENTWISE)

        end: Array = lax.while_loop(is_elementwise, lambda j: j + 1, i + 1)

        tiles = tiles_of(0, self.model.size)

        def compute(instruction: Instruction, operands: Sequence[Array]) -> Array:
            op, op_operands = apply_inner(instruction, list(operands[: len(instruction.layout)]))
            value = op.meaning(jnp, *op_operands)
            return jnp.broadcast_to(value, operands[0].shape).astype(jnp.float32)

        def on_tile(number: Array) -> None:
            tile = tiles.tile(number)

            def run(j: Array) -> None:
                operands = self._all_operands(j, tile)
                self._store_tile(j, tile, self._switch(Work.ELEMENTWISE, compute, j, operands))
                self._wait()

            for_each(i, end, run)

        for_each(tiles.first, tiles.end, on_tile)
        return end

    def _scalar(self, i: Array) -> Array:
        """Run an instruction on scalars."""

        def compute(instruction: Instruction, operands: Sequence[Array]) -> Array:
            own_operands = operands[: len(instruction.layout)]
            return jnp.asarray(instruction.op.of_numbers(jnp, *own_operands), jnp.float32)

        operands = [
            self.scalars[self.lane, self._field(i, FIRST + operand)]
            for operand in range(self._operand_count(Work.SCALAR))
        ]
        self._store_scalar(i, self._switch(Work.SCALAR, compute, i, operands))
        return i + 1

    def _sum_to_scalar(self, i: Array) -> Array:
        """Run an instruction with a scalar result from sums over the model."""

        def compute(instruction: Instruction, i: Array) -> Array:
            tiles = tiles_of(0, self.model.size)
            totals = self._totals(instruction, i, tiles, self.model.size)
            unread = [jnp.float32(0) for _ in instruction.layout]  # these ops read totals only
            return jnp.asarray(instruction.op.meaning(jnp, totals, *unread), jnp.float32)

        self._store_scalar(i, self._switch(Work.SUM_TO_SCALAR, compute, i, i))
        return i + 1

    def _sum_per_range(self, i: Array) -> Array:
        """Run an instruction with a tensor result from sums over ranges of the weights."""

        def compute(instruction: Instruction, i: Array) -> Array:
            assert instruction.op.reduction is not None
            first, count = self.tables.range_starts[instruction.op.reduction.kind]

            def on_range(number: Array) -> None:
                start, end = self.arguments.ranges[number], self.arguments.ranges[number + 1]
                self._reduce(instruction, i, tiles_of(start, end), (end - start) * 1.0)

            for_each(first, first + count, on_range)
            return i + 1

        return self._switch(Work.SUM_PER_RANGE, compute, i, i)

    def _sum_per_line(self, i: Array) -> Array:
        """Run an instruction with a tensor result from sums over rows or columns."""

        def compute(instruction: Instruction, i: Array) -> Array:
            assert instruction.op.reduction is not None
            by_row = instruction.op.reduction.kind == Kind.ROW

            def on_matrix(number: Array) -> None:
                matrix = self._matrix(number)
                blocks = pl.cdiv(matrix.rows, ROWS), pl.cdiv(matrix.columns, COLUMNS)
                line_blocks, blocks_of_line = blocks if by_row else blocks[::-1]

                def on_lines(lines: Array) -> None:
                    def tile(block: Array) -> Tile:
                        row, column = (lines, block) if by_row else (block, lines)
                        return matrix.tile(row, column, (ROWS, COLUMNS))

                    tiles = Tiles(0, blocks_of_line, tile, axis=1 if by_row else 0)
                    length = matrix.columns if by_row else matrix.rows
                    self._reduce(instruction, i, tiles, length * 1.0)

                for_each(0, line_blocks, on_lines)

            for_each(0, len(self.tables.matrices), on_matrix)
            return i + 1

        return self._switch(Work.SUM_PER_LINE, compute, i, i)

    def _iterate_matrices(self, i: Array) -> Array:
        """Run an instruction that iterates on the singular values of each matrix."""

        def compute(instruction: Instruction, i: Array) -> Array:
            assert instruction.op.iteration is not None
            iteration = instruction.op.iteration

            def on_matrix(number: Array) -> None:
                matrix = self._matrix(number)
                operand = Stored(self.tensors, (self.lane, self._field(i, FIRST)), matrix)
                result = Stored(self.tensors, (self.lane, self._field(i, OUT)), matrix)
                areas = [
                    Stored(self.scratch, (self.lane,), matrix.at(area * self.tables.largest_matrix))
                    for area in range(3)
                ]
                factor = self.arguments.sum_factors[self._field(i, KIND), matrix.offset]
                iterate(iteration, operand, result, areas, factor, self._wait)

            for_each(0, len(self.tables.matrices), on_matrix)
            return i + 1

        return self._switch(Work.MATRIX, compute, i, i)

    def _matrix(self, number: Array) -> Matrix:
        offset, rows, columns = (self.arguments.matrices[number, column] for column in range(3))
        return Matrix(offset, rows, columns, columns, 1)

    def _switch(
        self, work: Work, compute: Callable[[Instruction, Any], Array], i: Array, argument: Any
    ) -> Array:
        """Return `compute(instruction, argument)` for instruction `i`, whose work is `work`."""
        branches = [partial(compute, instruction) for instruction in self.by_kind_of_work[work]]
        branch = self.arguments.dispatch[self.lane, i, 1]
        value: Array = lax.switch(branch, branches, argument)
        return value

    def _reduce(self, instruction: Instruction, i: Array, tiles: Tiles, count: Any) -> None:
        """Write the results, for the weights in `tiles`, of an instruction that sums over them."""
        totals = self._totals(instruction, i, tiles, count)

        def on_tile(number: Array) -> None:
            tile = tiles.tile(number)
            value = instruction.op.meaning(jnp, totals, *self._operands(instruction, i, tile))
            self._store_tile(i, tile, value)

        for_each(tiles.first, tiles.end, on_tile)

    def _totals(
        self, instruction: Instruction, i: Array, tiles: Tiles, count: Any
    ) -> tuple[Array, ...]:
        """Return the sums of an instruction's reduction over `tiles`, or the means of `count`."""
        reduction = instruction.op.reduction
        assert reduction is not None

        def terms(number: Any) -> list[Array]:
            tile = tiles.tile(number)
            inputs = reduction.inputs(jnp, *self._operands(instruction, i, tile))
            if reduction.method == "sum":
                factors = load(self.arguments.sum_factors, (self._field(i, KIND),), tile)
                inputs = tuple(x * factors for x in inputs)
            return [jnp.where(tile.inside, x, 0.0) for x in inputs]

        def add(number: Array, sums: Sequence[Array]) -> Sequence[Array]:
            return [total + x for total, x in zip(sums, terms(number), strict=True)]

        numbers = [np.float32(0)] * len(instruction.layout)
        input_count = len(reduction.inputs(np, *numbers))
        zeros = [jnp.zeros(tiles.tile(0).inside.shape, jnp.float32)] * input_count
        sums = lax.fori_loop(tiles.first, tiles.end, add, zeros)
        self._wait()  # until all threads have read the operands, which the result may overwrite
        size = 1.0 if reduction.method == "sum" else count
        return tuple(
            total.sum(tiles.axis, keepdims=tiles.axis is not None) / size for total in sums
        )

    def _work(self, i: Array) -> Array:
        work: Array = self.arguments.dispatch[self.lane, i, 0]
        return work

    def _field(self, i: Array, column: int) -> Array:
        value: Array = self.arguments.program[self.lane, i, column]
        return value

    def _wait(self) -> None:
        """Wait until the writes of all threads are visible to all threads."""
        if not self.interpret:
            triton.debug_barrier()

    def _store_scalar(self, i: Array, value: Array) -> None:
        """Write the scalar result of instruction `i`."""
        self.scalars[self.lane, self._field(i, OUT)] = value

    def _store_tile(self, i: Array, tile: Tile, value: Any) -> None:
        """Write a tile of the tensor result of instruction `i`."""
        store(self.tensors, (self.lane, self._field(i, OUT)), tile, value)

    def _all_operands(self, i: Array, tile: Tile) -> list[Array]:
        """Return a tile of each operand of an elementwise instruction, before its branch.

        The branches compute only, which makes the kernel shorter than branches that load.
        """
        tensor_bits = self.arguments.dispatch[self.lane, i, 2]
        operands = []
        for operand in range(self._operand_count(Work.ELEMENTWISE)):
            register = self._field(i, FIRST + operand)
            is_tensor = (tensor_bits >> operand) & 1 == 1
            tensor_tile = Tile(tile.index, tile.inside & is_tensor)
            numbers = load(self.tensors, (self.lane, register), tensor_tile)
            operands.append(jnp.where(is_tensor, numbers, self.scalars[self.lane, register]))
        return operands

    def _operand_count(self, work: Work) -> int:
        """Return the maximum number of operands of the instructions of a kind of work."""
        return max(len(instruction.layout) for instruction in self.by_kind_of_work[work])

    def _operands(self, instruction: Instruction, i: Array, tile: Tile) -> list[Array]:
        """Return a tile of each operand of an instruction."""
        operands = []
        for position, register_class in enumerate(instruction.layout):
            register = self._field(i, FIRST + position)
            if register_class == "S":
                operands.append(self.scalars[self.lane, register])
            else:
                operands.append(load(self.tensors, (self.lane, register), tile))
        return operands


def _skip(i: Array) -> Array:
    return i + 1


def _for_each_tile(offset: int, size: int, act: Callable[[Tile, Tile], None]) -> None:
    """Call `act` for each tile of an array, with the tile in the array and in the model.

    Args:
        offset: index of the array's first weight in the model.
        size: number of weights of the array.
        act: function of the two tiles.
    """
    tiles = tiles_of(0, size)

    def on_tile(number: Array) -> None:
        tile = tiles.tile(number)
        act(tile, tile.shifted(offset))

    for_each(tiles.first, tiles.end, on_tile)
