"""Batches of programs as a Pallas kernel for NVIDIA GPUs: a block of threads for each lane.

A block runs its lane's program. A sequence of elementwise instructions is run tile by tile: the
whole sequence for one tile of the weights, then for the next tile. So an instruction reads the
result of the previous instruction from the cache. Sums end such a sequence.

Ops that multiply matrices run in the kernel if all matrices of the model are small, block by block
of each matrix, so that few registers are needed and many lanes run side by side. For a model with a
large matrix, gangs run these ops between calls of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from primitives.kinds import Kind, matrix_view
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import Gangs, Lanes
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import Inputs, PyTree, apply_inner
from primitives.op import MatrixIteration
from primitives.ops.functions import divide

Array = jax.Array
Ref = Any

TILE = 1024
"""Number of weights that a block computes at a time: eight for each thread of four warps."""
ROWS, COLUMNS = 16, 64
"""Size of a tile of a matrix, for sums over rows or columns; `TILE` weights."""
_WARPS = 4
BLOCK = 16
"""Rows and columns of the blocks of a matrix in matrix products.

Larger blocks need more registers for each thread, so that fewer lanes run side by side.
"""
_MAX_MATRIX = 2**14
"""Largest matrix, in weights, whose products the kernel computes."""
_NO_WEIGHT = 2**30
"""An index beyond all weights."""


class Work(IntEnum):
    """The kind of work that the kernel does for an instruction."""

    ELEMENTWISE = 0
    """A tensor result without a reduction."""
    SCALAR = 1
    """A scalar result from scalar operands."""
    SUM_TO_SCALAR = 2
    """A scalar result from sums over the model."""
    SUM_PER_RANGE = 3
    """A tensor result from sums over the model, over each array or over each matrix."""
    SUM_PER_LINE = 4
    """A tensor result from sums over each row or each column of the matrices."""
    MATRIX = 5
    """A tensor result from products of matrices."""
    OUTSIDE = 6
    """Work on matrices that gangs do outside the kernel."""


class Branches(NamedTuple):
    """The machine's instructions by the kind of work.

    Attributes:
        by_work: the instructions of each kind of work; each is a branch of the kernel.
        table: [instructions, 2] int32, the work of each instruction and its index in `by_work`.
            Instructions with tensor results come first, then those of each scalar group.
        starts: [sections] int32, the row of `table` at which each section of opcodes begins.
    """

    by_work: dict[Work, list[Instruction]]
    table: np.ndarray
    starts: np.ndarray

    def rows_of(self, code: Code) -> Array:
        """Return the rows of `table` for the lanes' programs, [lanes, instructions, 2]."""
        section, opcode = (code.instructions[..., column] for column in (SECTION, OPCODE))
        return jnp.asarray(self.table)[jnp.asarray(self.starts)[section] + opcode]


def branches_of(instructions: InstructionSet, model: ArrayLayout) -> Branches:
    """Return the branches of the kernel for a machine's instructions and a model."""
    matrix_work = Work.MATRIX if _fits(model) else Work.OUTSIDE
    sections = [instructions.tensor_instructions, *instructions.scalar_groups]
    by_work: dict[Work, list[Instruction]] = {work: [] for work in Work}
    table = []
    for index, section in enumerate(sections):
        for instruction in section:
            if index == 0:
                work = _tensor_work(instruction, matrix_work)
            else:
                work = Work.SCALAR if index == 1 else Work.SUM_TO_SCALAR
            table.append((work, len(by_work[work])))
            by_work[work].append(instruction)
    starts = np.cumsum([0, *map(len, sections)])[:-1]
    return Branches(by_work, np.array(table, np.int32), starts.astype(np.int32))


def _tensor_work(instruction: Instruction, matrix_work: Work) -> Work:
    op = instruction.op
    if op.matrixwise:
        return matrix_work if op.iteration else Work.OUTSIDE
    if op.reduction is None:
        return Work.ELEMENTWISE
    by_line = op.reduction.kind in (Kind.ROW, Kind.COL)
    return Work.SUM_PER_LINE if by_line else Work.SUM_PER_RANGE


def _fits(model: ArrayLayout) -> bool:
    """Return whether the kernel can multiply all matrices of the model."""
    return places_of(model).largest <= _MAX_MATRIX


class Places(NamedTuple):
    """Where the arrays and matrices of a model begin, as tables that the kernel reads.

    Attributes:
        ranges: [entries] int32, the offsets of the ranges of each kind in `range_starts`.
        range_starts: for the kinds scalar, leaf and matrix, the index in `ranges` of the kind's
            first offset, and the number of ranges. Range n goes from offset n to offset n + 1.
        matrices: [matrices, 3] int32, the offset, rows and columns of each matrix.
        largest: the number of weights of the largest matrix.
    """

    ranges: np.ndarray
    range_starts: dict[Kind, tuple[int, int]]
    matrices: np.ndarray
    largest: int


def places_of(model: ArrayLayout) -> Places:
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
    return Places(np.array(ranges, np.int32), range_starts, table, largest)


def run_kernel(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
    inputs: Inputs,
    *,
    interpret: bool = False,
) -> tuple[PyTree, Array, Array]:
    """Run one step of every lane; arguments and results are those of `gangs.run_gangs`.

    With `interpret`, JAX interprets the kernel on any device, for tests.
    """
    branches = branches_of(instructions, model)
    places = places_of(model)
    lane_count = tensors.shape[0]
    weights, grads = (_flatten(tree, lane_count) for tree in (inputs.weights, inputs.grads))
    arguments = _Arguments(
        program=code.instructions,
        length=code.length,
        branch_rows=branches.rows_of(code),
        update=jnp.stack([code.update, code.scale], axis=1),
        ranges=jnp.asarray(places.ranges),
        matrices=jnp.asarray(places.matrices),
        sum_factors=sum_factors,
        numbers=jnp.stack([inputs.lr, inputs.t, inputs.factor], axis=1),
        weights=weights,
        grads=grads,
    )
    needs_scratch = bool(branches.by_work[Work.MATRIX])
    scratch: Any = jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
        (lane_count, 3 * places.largest if needs_scratch else 1), jnp.float32
    )

    def run_to_matrices(lanes: Lanes) -> tuple[Lanes, list[Array]]:
        """Advance every lane to its next instruction outside the kernel or its end.

        Also return the updates of the lanes that are at their end.
        """
        argument_count = len(jax.tree.leaves(arguments))
        call = pl.pallas_call(
            partial(_run_lane, branches.by_work, places, model, interpret),
            out_shape=(Lanes(*map(jax.typeof, lanes)), list(map(jax.typeof, weights)), scratch),
            grid=(lane_count,),
            input_output_aliases={argument_count + number: number for number in range(len(lanes))},
            compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
            interpret=interpret,
            name="optimizer_programs",
        )
        after, updates, _ = call(arguments, lanes)
        return after, updates

    start = Lanes(jnp.zeros(lane_count, jnp.int32), tensors, scalars)
    if branches.by_work[Work.OUTSIDE]:
        gangs = Gangs(instructions, model, code, sum_factors)
        tensor_count = len(instructions.tensor_instructions)
        is_outside = jnp.asarray(branches.table[:tensor_count, 0] == Work.OUTSIDE)

        def run_past_matrices(lanes: Lanes) -> Lanes:
            return gangs.run_tensor_instructions(
                run_to_matrices(lanes)[0], includes=lambda opcode: is_outside[opcode]
            )

        start = lax.while_loop(gangs.are_running, run_past_matrices, start)
    end, updates = run_to_matrices(start)
    leaves = [
        update.reshape(lane_count, *shape)
        for update, shape in zip(updates, model.shapes, strict=True)
    ]
    return jax.tree.unflatten(model.structure, leaves), end.tensors, end.scalars


def _flatten(tree: PyTree, lane_count: int) -> list[Array]:
    """Return the arrays of a pytree as matrices [lanes, weights of the array]."""
    return [leaf.reshape(lane_count, -1) for leaf in jax.tree.leaves(tree)]


class _Arguments(NamedTuple):
    """What the kernel reads and does not write.

    Attributes:
        program: [lanes, instructions, columns], the lanes' programs.
        length: [lanes], the number of instructions of each lane.
        branch_rows: [lanes, instructions, 2]; see `Branches.rows_of`.
        update: [lanes, 2], the tensor register of the update, and the scalar register that
            multiplies the update.
        ranges: [entries]; see `Places`.
        matrices: [matrices, 3]; see `Places`.
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        numbers: [lanes, 3]: lr, t and the learning rate that multiplies the update.
        weights: for each array of the model, [lanes, weights of the array].
        grads: the gradients, as `weights`.
    """

    program: Any
    length: Any
    branch_rows: Any
    update: Any
    ranges: Any
    matrices: Any
    sum_factors: Any
    numbers: Any
    weights: Any
    grads: Any


def _run_lane(
    by_work: dict[Work, list[Instruction]],
    places: Places,
    model: ArrayLayout,
    interpret: bool,
    arguments: _Arguments,
    _before: Lanes,
    after: Lanes,
    updates: list[Ref],
    scratch: Ref,
) -> None:
    """Run the kernel for one lane. The registers before and after the step share memory."""
    lane = pl.program_id(0)
    block = _Block(lane, by_work, places, model, interpret, arguments, *after, scratch)
    block.run(updates)


class _Tile(NamedTuple):
    """Weights that a block computes at a time.

    Attributes:
        index: the indices of the weights in the model: a slice, or an int32 array.
        inside: which of the indices belong to the weights that are computed.
    """

    index: Any
    inside: Array


@dataclass(frozen=True)
class _Block:
    """The work of the block of threads of one lane.

    Attributes:
        lane: () int32, the index of the lane.
        by_work: the instructions of each kind of work.
        places: where the arrays and matrices of the model begin.
        model: the layout of the model.
        interpret: whether JAX interprets the kernel.
        arguments: what the kernel reads.
        next_index: [lanes], the index of the lane's next instruction.
        tensors: [lanes, registers, weights].
        scalars: [lanes, registers].
        scratch: [lanes, entries], memory for three matrices.
    """

    lane: Array
    by_work: dict[Work, list[Instruction]]
    places: Places
    model: ArrayLayout
    interpret: bool
    arguments: _Arguments
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

            def copy(array: Ref, number: Array, tile: _Tile, register: int = register) -> None:
                values = _load(array, (self.lane,), _tile(number, 0, array.shape[1]))
                _store(self.tensors, (self.lane, jnp.int32(register)), tile, values)

            self._for_each_tile(arrays, copy)

    def _read_updates(self, updates: Sequence[Ref]) -> None:
        """Write the updates from the registers."""
        register, scale = (self.arguments.update[self.lane, column] for column in range(2))
        factor = -self.arguments.numbers[self.lane, 2]

        def copy(array: Ref, number: Array, tile: _Tile) -> None:
            update = _load(self.tensors, (self.lane, register), tile)
            values = update * self.scalars[self.lane, scale] * factor
            _store(array, (self.lane,), _tile(number, 0, array.shape[1]), values)

        self._for_each_tile(updates, copy)

    def _for_each_tile(
        self, arrays: Sequence[Ref], act: Callable[[Ref, Array, _Tile], None]
    ) -> None:
        """Call `act(array, number, tile)` for each tile of each array of the model.

        `number` is the number of the tile in the array, and `tile` is its place in the model.
        """
        for array, offset in zip(arrays, map(int, self.model.offsets), strict=False):
            size = array.shape[1]

            def on_tile(number: Array, array: Ref = array, start: int = offset) -> None:
                inside = _tile(number, 0, array.shape[1]).inside
                act(array, number, _Tile(pl.ds(start + number * TILE, TILE), inside))

            _for_each(0, pl.cdiv(size, TILE), on_tile)

    @property
    def _length(self) -> Array:
        """Number of instructions of the lane's program."""
        length: Array = self.arguments.length[self.lane]
        return length

    def _may_run(self, i: Array) -> Array:
        """Whether instruction `i` exists and runs in the kernel."""
        exists: Array = i < self._length
        last = self.arguments.branch_rows.shape[1] - 1
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
            runner if self.by_work[Work(work)] else _skip for work, runner in enumerate(runners)
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

        def compute(instruction: Instruction, j: Array, number: Array) -> Array:
            tile = _tile(number, 0, self.model.size)
            op, operands = apply_inner(instruction, self._operands(instruction, j, tile))
            return jnp.broadcast_to(op.meaning(jnp, *operands), TILE).astype(jnp.float32)

        def on_tile(number: Array) -> None:
            def run(j: Array) -> None:
                value = self._switch(Work.ELEMENTWISE, compute, j, number)
                self._store(j, _tile(number, 0, self.model.size), value)
                self._wait()

            _for_each(i, end, run)

        _for_each(0, pl.cdiv(self.model.size, TILE), on_tile)
        return end

    def _scalar(self, i: Array) -> Array:
        """Run an instruction on scalars."""

        def compute(instruction: Instruction, i: Array) -> Array:
            operands = self._operands(instruction, i, None)
            return jnp.asarray(instruction.op.of_numbers(jnp, *operands), jnp.float32)

        self._store_scalar(i, self._switch(Work.SCALAR, compute, i))
        return i + 1

    def _sum_to_scalar(self, i: Array) -> Array:
        """Run an instruction with a scalar result from sums over the model."""

        def compute(instruction: Instruction, i: Array) -> Array:
            tiles = _tiles(0, self.model.size)
            totals = self._totals(instruction, i, tiles, self.model.size)
            unread = [jnp.float32(0) for _ in instruction.layout]  # these ops read totals only
            return jnp.asarray(instruction.op.meaning(jnp, totals, *unread), jnp.float32)

        self._store_scalar(i, self._switch(Work.SUM_TO_SCALAR, compute, i))
        return i + 1

    def _sum_per_range(self, i: Array) -> Array:
        """Run an instruction with a tensor result from sums over ranges of the weights."""

        def compute(instruction: Instruction, i: Array) -> Array:
            assert instruction.op.reduction is not None
            first, count = self.places.range_starts[instruction.op.reduction.kind]

            def on_range(number: Array) -> None:
                start, end = self.arguments.ranges[number], self.arguments.ranges[number + 1]
                self._reduce(instruction, i, _tiles(start, end), (end - start) * 1.0)

            _for_each(first, first + count, on_range)
            return i + 1

        return self._switch(Work.SUM_PER_RANGE, compute, i)

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
                    def tile(block: Array) -> _Tile:
                        row, column = (lines, block) if by_row else (block, lines)
                        return matrix.tile(row, column, (ROWS, COLUMNS))

                    tiles = _Tiles(0, blocks_of_line, tile, axis=1 if by_row else 0)
                    length = matrix.columns if by_row else matrix.rows
                    self._reduce(instruction, i, tiles, length * 1.0)

                _for_each(0, line_blocks, on_lines)

            _for_each(0, len(self.places.matrices), on_matrix)
            return i + 1

        return self._switch(Work.SUM_PER_LINE, compute, i)

    def _iterate_matrices(self, i: Array) -> Array:
        """Run an instruction that iterates on the singular values of each matrix."""

        def compute(instruction: Instruction, i: Array) -> Array:
            assert instruction.op.iteration is not None
            iterate = partial(self._iterate, instruction.op.iteration, i)
            _for_each(0, len(self.places.matrices), iterate)
            return i + 1

        return self._switch(Work.MATRIX, compute, i)

    def _iterate(self, iteration: MatrixIteration, i: Array, number: Array) -> None:
        """Run an iteration on one matrix."""
        matrix = self._matrix(number).with_fewer_rows_than_columns()
        x = _Stored(self.tensors, (self.lane, self._field(i, FIRST)), matrix)
        u = _Stored(self.tensors, (self.lane, self._field(i, OUT)), matrix)
        square = _Matrix(0, matrix.rows, matrix.rows, matrix.rows, 1)
        gram, factor, next_u = (
            _Stored(self.scratch, (self.lane,), shape._replace(offset=area * self.places.largest))
            for area, shape in enumerate((square, square, matrix))
        )
        a, b, c = iteration.coefficients

        def add_squares(row: Array, column: Array, total: Array) -> Array:
            return total + x.load(row, column) ** 2

        squares = _fold_blocks(x, add_squares, jnp.zeros((BLOCK, BLOCK), jnp.float32))
        norm = jnp.sqrt(jnp.sum(squares))
        self._write(next_u, lambda *at: divide(jnp, x.load(*at), norm))
        self._write(u, next_u.load)  # the result may have the register of the operand

        def step(_: Array) -> None:
            self._write(gram, lambda *at: _product(u, u.transposed(), *at))
            self._write(factor, lambda *at: b * gram.load(*at) + c * _product(gram, gram, *at))
            self._write(next_u, lambda *at: a * u.load(*at) + _product(factor, u, *at))
            self._write(u, next_u.load)

        _for_each(0, iteration.steps, step)

    def _write(self, target: _Stored, value: Callable[[Array, Array], Array]) -> None:
        """Write `value(row, column)` to each block of a matrix."""

        def write(row: Array, column: Array, carry: int) -> int:
            target.store(row, column, value(row, column))
            return carry

        self._wait()
        _fold_blocks(target, write, 0)
        self._wait()

    def _matrix(self, number: Array) -> _Matrix:
        offset, rows, columns = (self.arguments.matrices[number, column] for column in range(3))
        return _Matrix(offset, rows, columns, columns, 1)

    def _switch(self, work: Work, compute: Callable[..., Array], i: Array, *more: Array) -> Array:
        """Return `compute(instruction, i, *more)` for instruction `i`, whose work is `work`."""
        branches = [partial(compute, instruction) for instruction in self.by_work[work]]
        value: Array = lax.switch(self.arguments.branch_rows[self.lane, i, 1], branches, i, *more)
        return value

    def _reduce(self, instruction: Instruction, i: Array, tiles: _Tiles, count: Any) -> None:
        """Write the results, for the weights in `tiles`, of an instruction that sums over them."""
        totals = self._totals(instruction, i, tiles, count)

        def on_tile(number: Array) -> None:
            tile = tiles.tile(number)
            value = instruction.op.meaning(jnp, totals, *self._operands(instruction, i, tile))
            self._store(i, tile, value)

        _for_each(tiles.first, tiles.end, on_tile)

    def _totals(
        self, instruction: Instruction, i: Array, tiles: _Tiles, count: Any
    ) -> tuple[Array, ...]:
        """Return the sums of an instruction's reduction over `tiles`, or the means of `count`."""
        reduction = instruction.op.reduction
        assert reduction is not None

        def terms(number: Any) -> list[Array]:
            tile = tiles.tile(number)
            inputs = reduction.inputs(jnp, *self._operands(instruction, i, tile))
            if reduction.method == "sum":
                factors = _load(self.arguments.sum_factors, (self._field(i, KIND),), tile)
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
        work: Array = self.arguments.branch_rows[self.lane, i, 0]
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

    def _store(self, i: Array, tile: _Tile, value: Any) -> None:
        """Write a tile of the tensor result of instruction `i`."""
        _store(self.tensors, (self.lane, self._field(i, OUT)), tile, value)

    def _operands(self, instruction: Instruction, i: Array, tile: _Tile | None) -> list[Array]:
        operands = []
        for position, register_class in enumerate(instruction.layout):
            register = self._field(i, FIRST + position)
            if register_class == "S":
                operands.append(self.scalars[self.lane, register])
            else:
                assert tile is not None
                operands.append(_load(self.tensors, (self.lane, register), tile))
        return operands


@dataclass(frozen=True)
class _Tiles:
    """The tiles over which an instruction sums.

    Attributes:
        first: number of the first tile.
        end: number of the last tile plus one.
        tile: returns the tile with a number.
        axis: the axis of the tiles along which to sum; None for all axes.
    """

    first: Any
    end: Any
    tile: Callable[[Any], _Tile]
    axis: int | None = None


class _Matrix(NamedTuple):
    """Where the weights of a matrix are, as offset and strides in a vector."""

    offset: Any
    rows: Any
    columns: Any
    row_stride: Any
    column_stride: Any

    def tile(self, row: Any, column: Any, shape: tuple[int, int]) -> _Tile:
        """Return the tile in a row and column of tiles; `inside` marks the matrix's weights."""
        rows = row * shape[0] + lax.broadcasted_iota(jnp.int32, shape, 0)
        columns = column * shape[1] + lax.broadcasted_iota(jnp.int32, shape, 1)
        index = self.offset + rows * self.row_stride + columns * self.column_stride
        inside = (rows < self.rows) & (columns < self.columns)
        # Outside the matrix, the index may be that of another weight of the tile. The interpreter
        # of kernels would then write this weight twice.
        return _Tile(jnp.where(inside, index, _NO_WEIGHT), inside)

    def transposed(self) -> _Matrix:
        """Return the transposed matrix."""
        sides = self.columns, self.rows
        return _Matrix(self.offset, *sides, self.column_stride, self.row_stride)

    def with_fewer_rows_than_columns(self) -> _Matrix:
        """Return the matrix, or the transposed matrix if it has more rows than columns."""
        is_tall = self.rows > self.columns
        fields = zip(self, self.transposed(), strict=True)
        return _Matrix(*(jnp.where(is_tall, transposed, own) for own, transposed in fields))


@dataclass(frozen=True)
class _Stored:
    """A matrix in one row of a memory, such as a tensor register of a lane."""

    memory: Ref
    row: tuple[Array, ...]
    matrix: _Matrix

    def load(self, row: Any, column: Any) -> Array:
        """Return the block in a row and column of blocks, with zeros outside the matrix."""
        return _load(self.memory, self.row, self.matrix.tile(row, column, (BLOCK, BLOCK)))

    def store(self, row: Any, column: Any, value: Array) -> None:
        """Write the block in a row and column of blocks."""
        _store(self.memory, self.row, self.matrix.tile(row, column, (BLOCK, BLOCK)), value)

    def transposed(self) -> _Stored:
        """Return the transposed matrix, in the same memory."""
        return _Stored(self.memory, self.row, self.matrix.transposed())


def _product(left: _Stored, right: _Stored, row: Any, column: Any) -> Array:
    """Return a block of the product of two matrices."""

    def add(k: Array, total: Array) -> Array:
        block = jnp.dot(left.load(row, k), right.load(k, column), precision="highest")
        return total + block

    zeros = jnp.zeros((BLOCK, BLOCK), jnp.float32)
    product: Array = lax.fori_loop(0, pl.cdiv(left.matrix.columns, BLOCK), add, zeros)
    return product


def _fold_blocks(stored: _Stored, act: Callable[[Array, Array, Any], Any], start: Any) -> Any:
    """Return `act(row, column, value)` of all blocks of a matrix, one after another."""
    columns = pl.cdiv(stored.matrix.columns, BLOCK)

    def on_block(number: Array, value: Any) -> Any:
        return act(number // columns, number % columns, value)

    return lax.fori_loop(0, pl.cdiv(stored.matrix.rows, BLOCK) * columns, on_block, start)


def _load(memory: Ref, row: tuple[Array, ...], tile: _Tile) -> Array:
    """Load a tile of one row, with zeros outside the tile."""
    value: Array = triton.load(memory.at[*row, tile.index], mask=tile.inside, other=0.0)
    return value


def _store(memory: Ref, row: tuple[Array, ...], tile: _Tile, value: Any) -> None:
    """Write a tile of one row, or a number for all weights of the tile."""
    numbers = jnp.broadcast_to(value, tile.inside.shape).astype(memory.dtype)
    triton.store(memory.at[*row, tile.index], numbers, mask=tile.inside)


def _tile(number: Any, start: Any, end: Any) -> _Tile:
    """Return the part in [start, end) of the tile with a number; tiles begin at weight 0."""
    index = number * TILE + lax.iota(jnp.int32, TILE)
    return _Tile(pl.ds(number * TILE, TILE), (index >= start) & (index < end))


def _tiles(start: Any, end: Any) -> _Tiles:
    """Return the tiles that overlap weights [start, end)."""
    return _Tiles(start // TILE, pl.cdiv(end, TILE), lambda number: _tile(number, start, end))


def _skip(i: Array) -> Array:
    return i + 1


def _for_each(first: Any, end: Any, act: Callable[[Array], None]) -> None:
    def body(i: Array, carry: int) -> int:
        act(i)
        return carry

    lax.fori_loop(first, end, body, 0)
