"""Batches of programs as a Pallas kernel for NVIDIA GPUs: a block of threads for each lane.

A block runs its lane's program up to the next instruction that acts on matrices (rows, columns,
matrix products). Gangs run instructions on matrices between calls of the kernel; a program without
them needs one call per step. A sequence of elementwise instructions is run tile by tile: the whole
sequence for one tile of the weights, then for the next tile. So an instruction reads the result of
the previous instruction from the cache. Sums end such a sequence.
"""

from __future__ import annotations

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

from primitives.kinds import Kind
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import Gangs, Lanes
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import apply_inner

Array = jax.Array
Ref = Any

TILE = 1024
"""Number of weights that a block computes at a time: eight for each thread of four warps."""
_WARPS = 4


class Work(IntEnum):
    """The kind of work that the kernel does for an instruction."""

    ELEMENTWISE = 0
    """A tensor result without a reduction."""
    SCALAR = 1
    """A scalar result from scalar operands."""
    SUM_TO_SCALAR = 2
    """A scalar result from sums over the model."""
    SUM_TO_TENSOR = 3
    """A tensor result from sums over the model."""
    SUM_PER_ARRAY = 4
    """A tensor result from sums over each array."""
    MATRIX = 5
    """Work on matrices, which gangs do outside the kernel."""


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


def branches_of(instructions: InstructionSet) -> Branches:
    """Return the branches of the kernel for a machine's instructions."""
    sections = [instructions.tensor_instructions, *instructions.scalar_groups]
    by_work: dict[Work, list[Instruction]] = {work: [] for work in Work}
    table = []
    for index, section in enumerate(sections):
        for instruction in section:
            if index == 0:
                work = _tensor_work(instruction)
            else:
                work = Work.SCALAR if index == 1 else Work.SUM_TO_SCALAR
            table.append((work, len(by_work[work])))
            by_work[work].append(instruction)
    starts = np.cumsum([0, *map(len, sections)])[:-1]
    return Branches(by_work, np.array(table, np.int32), starts.astype(np.int32))


def _tensor_work(instruction: Instruction) -> Work:
    op = instruction.op
    if op.matrixwise:
        return Work.MATRIX
    if op.reduction is None:
        return Work.ELEMENTWISE
    by_scope = {Kind.SCALAR: Work.SUM_TO_TENSOR, Kind.LEAF: Work.SUM_PER_ARRAY}
    return by_scope.get(op.reduction.kind, Work.MATRIX)


def run_kernel(
    instructions: InstructionSet,
    model: ArrayLayout,
    code: Code,
    sum_factors: Array,
    tensors: Array,
    scalars: Array,
    *,
    interpret: bool = False,
) -> tuple[Array, Array]:
    """Run one step of every lane; arguments and results are those of `gangs.run_gangs`.

    With `interpret`, JAX interprets the kernel on any device, for tests.
    """
    branches = branches_of(instructions)
    branch_rows = branches.rows_of(code)
    offsets = jnp.asarray(model.offsets, jnp.int32)

    def run_to_matrices(lanes: Lanes) -> Lanes:
        """Advance every lane to its next instruction on matrices or its end."""
        inputs = (code.instructions, code.length, branch_rows, offsets, sum_factors)
        call = pl.pallas_call(
            partial(_lane, branches.by_work, model.size, interpret),
            out_shape=list(map(jax.typeof, lanes)),
            grid=(lanes.next_index.shape[0],),
            input_output_aliases={len(inputs) + number: number for number in range(len(lanes))},
            compiler_params=triton.CompilerParams(num_warps=_WARPS),
            interpret=interpret,
            name="optimizer_programs",
        )
        return Lanes(*call(*inputs, *lanes))

    start = Lanes(jnp.zeros(tensors.shape[0], jnp.int32), tensors, scalars)
    if not branches.by_work[Work.MATRIX]:
        end = run_to_matrices(start)
        return end.tensors, end.scalars
    gangs = Gangs(instructions, model, code, sum_factors)
    tensor_count = len(instructions.tensor_instructions)
    acts_on_matrices = jnp.asarray(branches.table[:tensor_count, 0] == Work.MATRIX)

    def run_past_matrices(lanes: Lanes) -> Lanes:
        return gangs.run_tensor_instructions(
            run_to_matrices(lanes), includes=lambda opcode: acts_on_matrices[opcode]
        )

    end = lax.while_loop(gangs.are_running, run_past_matrices, start)
    return end.tensors, end.scalars


def _lane(
    by_work: dict[Work, list[Instruction]],
    weights: int,
    interpret: bool,
    program: Ref,
    length: Ref,
    branch_rows: Ref,
    offsets: Ref,
    sum_factors: Ref,
    first_index: Ref,
    _tensors_in: Ref,
    _scalars_in: Ref,
    next_index: Ref,
    tensors: Ref,
    scalars: Ref,
) -> None:
    """Run the kernel for one lane. The inputs and outputs of the registers share memory."""
    lane = pl.program_id(0)
    block = _Block(
        lane,
        by_work,
        weights,
        interpret,
        program,
        length[lane],
        branch_rows,
        offsets,
        sum_factors,
        tensors,
        scalars,
    )
    next_index[lane] = lax.while_loop(block.may_run, block.run_from, first_index[lane])


@dataclass(frozen=True)
class _Block:
    """The work of the block of threads of one lane.

    Attributes:
        lane: () int32, the index of the lane.
        by_work: the instructions of each kind of work.
        weights: the number of weights.
        interpret: whether JAX interprets the kernel.
        program: [lanes, instructions, columns], the lanes' programs.
        end: () int32, the number of instructions of this lane.
        branch_rows: [lanes, instructions, 2]; see `Branches.rows_of`.
        offsets: [arrays + 1]; see `ArrayLayout`.
        sum_factors: [kinds, weights]; see `ArrayLayout.sum_factors`.
        tensors: [lanes, registers, weights].
        scalars: [lanes, registers].
    """

    lane: Array
    by_work: dict[Work, list[Instruction]]
    weights: int
    interpret: bool
    program: Ref
    end: Array
    branch_rows: Ref
    offsets: Ref
    sum_factors: Ref
    tensors: Ref
    scalars: Ref

    def may_run(self, i: Array) -> Array:
        """Whether instruction `i` exists and runs in the kernel."""
        exists: Array = i < self.end
        last = self.branch_rows.shape[1] - 1
        return exists & (self._work(jnp.minimum(i, last)) != Work.MATRIX)

    def run_from(self, i: Array) -> Array:
        """Run instruction `i`, or the elementwise sequence at `i`; return the next index."""
        runners = [
            self._elementwise,
            self._scalar,
            self._sum_to_scalar,
            self._sum_to_tensor,
            self._sum_per_array,
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
            exists: Array = j < self.end
            return exists & (self._work(jnp.minimum(j, self.end - 1)) == Work.ELEMENTWISE)

        end: Array = lax.while_loop(is_elementwise, lambda j: j + 1, i + 1)

        def compute(instruction: Instruction, j: Array, tile: Array) -> Array:
            op, operands = apply_inner(instruction, self._operands(instruction, j, tile))
            return _as_tile(op.meaning(jnp, *operands))

        def on_tile(tile: Array) -> None:
            def run(j: Array) -> None:
                value = self._switch(Work.ELEMENTWISE, compute, j, tile)
                self._store_tile(j, tile, value, self._inside(tile, 0, self.weights))
                self._wait()

            _for_each(i, end, run)

        _for_each(0, pl.cdiv(self.weights, TILE), on_tile)
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
            totals = self._totals(instruction, i, 0, self.weights)
            unread = [jnp.float32(0) for _ in instruction.layout]  # these ops read totals only
            return jnp.asarray(instruction.op.meaning(jnp, totals, *unread), jnp.float32)

        self._store_scalar(i, self._switch(Work.SUM_TO_SCALAR, compute, i))
        return i + 1

    def _sum_to_tensor(self, i: Array) -> Array:
        """Run an instruction with a tensor result from sums over the model."""

        def compute(instruction: Instruction, i: Array) -> Array:
            self._reduce(instruction, i, 0, self.weights)
            return i + 1

        return self._switch(Work.SUM_TO_TENSOR, compute, i)

    def _sum_per_array(self, i: Array) -> Array:
        """Run an instruction with a tensor result from sums over each array."""

        def compute(instruction: Instruction, i: Array) -> Array:
            def on_array(array: Array) -> None:
                self._reduce(instruction, i, self.offsets[array], self.offsets[array + 1])

            _for_each(0, self.offsets.shape[0] - 1, on_array)
            return i + 1

        return self._switch(Work.SUM_PER_ARRAY, compute, i)

    def _switch(self, work: Work, compute: Callable[..., Array], i: Array, *more: Array) -> Array:
        """Return `compute(instruction, i, *more)` for instruction `i`, whose work is `work`."""
        branches = [partial(compute, instruction) for instruction in self.by_work[work]]
        value: Array = lax.switch(self.branch_rows[self.lane, i, 1], branches, i, *more)
        return value

    def _reduce(self, instruction: Instruction, i: Array, start: Any, end: Any) -> None:
        """Write the results, for weights [start, end), of an instruction that sums over them."""
        totals = self._totals(instruction, i, start, end)

        def on_tile(tile: Array) -> None:
            operands = self._operands(instruction, i, tile)
            value = _as_tile(instruction.op.meaning(jnp, totals, *operands))
            self._store_tile(i, tile, value, self._inside(tile, start, end))

        _for_each(*_tiles(start, end), on_tile)

    def _totals(
        self, instruction: Instruction, i: Array, start: Any, end: Any
    ) -> tuple[Array, ...]:
        """Return the sums or means of an instruction's reduction over weights [start, end)."""
        reduction = instruction.op.reduction
        assert reduction is not None
        numbers = [np.float32(0)] * len(instruction.layout)
        count = len(reduction.inputs(np, *numbers))

        def add(tile: Array, sums: Sequence[Array]) -> Sequence[Array]:
            inputs = reduction.inputs(jnp, *self._operands(instruction, i, tile))
            inside = self._inside(tile, start, end)
            if reduction.method == "sum":
                factors = self._load(self.sum_factors, (self._field(i, KIND),), tile)
                inputs = tuple(x * factors for x in inputs)
            return [
                total + jnp.where(inside, x, 0.0) for total, x in zip(sums, inputs, strict=True)
            ]

        zeros = [jnp.zeros(TILE, jnp.float32)] * count
        sums = lax.fori_loop(*_tiles(start, end), add, zeros)
        self._wait()  # until all threads have read the operands, which the result may overwrite
        size = 1.0 if reduction.method == "sum" else (end - start) * 1.0
        return tuple(total.sum() / size for total in sums)

    def _work(self, i: Array) -> Array:
        work: Array = self.branch_rows[self.lane, i, 0]
        return work

    def _field(self, i: Array, column: int) -> Array:
        value: Array = self.program[self.lane, i, column]
        return value

    def _wait(self) -> None:
        """Wait until the writes of all threads are visible to all threads."""
        if not self.interpret:
            triton.debug_barrier()

    def _inside(self, tile: Array, start: Any, end: Any) -> Array:
        """Return which weights of a tile are in [start, end)."""
        index = tile * TILE + lax.iota(jnp.int32, TILE)
        inside: Array = (index >= start) & (index < end)
        return inside

    def _store_scalar(self, i: Array, value: Array) -> None:
        """Write the scalar result of instruction `i`."""
        self.scalars[self.lane, self._field(i, OUT)] = value

    def _store_tile(self, i: Array, tile: Array, value: Array, inside: Array) -> None:
        """Write a tile of the tensor result of instruction `i`."""
        target = self.tensors.at[self.lane, self._field(i, OUT), pl.ds(tile * TILE, TILE)]
        triton.store(target, value, mask=inside)

    def _operands(self, instruction: Instruction, i: Array, tile: Array | None) -> list[Array]:
        operands = []
        for position, register_class in enumerate(instruction.layout):
            register = self._field(i, FIRST + position)
            if register_class == "S":
                operands.append(self.scalars[self.lane, register])
            else:
                operands.append(self._load(self.tensors, (self.lane, register), tile))
        return operands

    def _load(self, rows: Ref, row: tuple[Array, ...], tile: Array | None) -> Array:
        """Load a tile of one row, with zeros beyond the last weight."""
        assert tile is not None
        inside = self._inside(tile, 0, self.weights)
        value: Array = triton.load(rows.at[*row, pl.ds(tile * TILE, TILE)], mask=inside, other=0.0)
        return value


def _skip(i: Array) -> Array:
    return i + 1


def _as_tile(value: Any) -> Array:
    """Broadcast a number or a tile to a tile."""
    return jnp.broadcast_to(value, (TILE,)).astype(jnp.float32)


def _for_each(first: Any, end: Any, act: Callable[[Array], None]) -> None:
    def body(i: Array, carry: int) -> int:
        act(i)
        return carry

    lax.fori_loop(first, end, body, 0)


def _tiles(start: Any, end: Any) -> tuple[Any, Any]:
    """Return the range of tiles that overlap weights [start, end)."""
    return start // TILE, pl.cdiv(end, TILE)
