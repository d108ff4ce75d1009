"""Programs side by side as a Pallas kernel: each lane a block of threads with its own branches.

A block runs its program as far as the kernel's instructions go. A run of elementwise instructions
goes over the weights a tile at a time, all instructions of the run for one tile before the next
tile, so that what one writes the next reads from the cache; sums split the runs. What acts on
matrices (rows, columns, products) is left to the gangs between two calls of the kernel; programs
without it need one call a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from primitives.arrays import Arrays
from primitives.batch.gangs import Files, Gangs
from primitives.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.instructions import Instruction, InstructionSet
from primitives.kinds import Kind
from primitives.machine import inner_applied

Array = jax.Array
Ref = Any

TILE = 1024
"""Weights that a block computes at a time: four warps' eight each."""
_WARPS = 4


class Work(IntEnum):
    """What an instruction takes in the kernel."""

    ELEMENTWISE = 0
    NUMBER = 1
    SUM = 2
    """Sums over the model that give a number."""
    SPREAD = 3
    """Sums over the model and then each element."""
    ARRAYWISE = 4
    """Sums over each array and then each element."""
    MATRIX = 5
    """Left to the gangs, as the end of a program is left to the caller."""


def tensor_work(one: Instruction) -> Work:
    """What a tensor instruction takes."""
    if one.op.matrixwise:
        return Work.MATRIX
    if one.op.reduction is None:
        return Work.ELEMENTWISE
    scopes = {Kind.SCALAR: Work.SPREAD, Kind.LEAF: Work.ARRAYWISE}
    return scopes.get(one.op.reduction.scope, Work.MATRIX)


def run_kernel(
    instructions: InstructionSet,
    model: Arrays,
    code: Code,
    share: Array,
    file: Array,
    scalars: Array,
    *,
    interpret: bool = False,
) -> tuple[Array, Array]:
    """One step of every lane, as `gangs.run_gangs`.

    With `interpret` the kernel is run by JAX itself, wherever that is: for tests.
    """
    kernel = _Kernel(instructions, model, code, share, interpret)
    matrix = np.array([tensor_work(one) == Work.MATRIX for one in instructions.tensors])
    start = Files(jnp.zeros(file.shape[0], jnp.int32), file, scalars)
    if not matrix.any():
        end = kernel.advance(start)
        return end.file, end.scalars
    gangs = Gangs(instructions, model, code, share)

    def further(files: Files) -> Files:
        return gangs.tensors(
            kernel.advance(files), among=lambda opcode: jnp.asarray(matrix)[opcode]
        )

    end = lax.while_loop(gangs.running, further, start)
    return end.file, end.scalars


class _Kernel:
    def __init__(
        self,
        instructions: InstructionSet,
        model: Arrays,
        code: Code,
        share: Array,
        interpret: bool,
    ):
        self._instructions = instructions
        self._weights = model.size
        self._bounds = jnp.asarray(model.bounds, jnp.int32)
        self._code = code
        self._share = share
        self._interpret = interpret
        tensors = [tensor_work(one) for one in instructions.tensors]
        numbers = [Work.NUMBER, *[Work.SUM] * (len(instructions.scalars) - 1)]
        section, opcode = (code.instructions[..., column] for column in (SECTION, OPCODE))
        self._work = jnp.where(
            section == 0,
            jnp.asarray(tensors, jnp.int32)[jnp.where(section == 0, opcode, 0)],
            jnp.asarray(numbers, jnp.int32)[jnp.maximum(section - 1, 0)],
        )

    def advance(self, files: Files) -> Files:
        """Every lane up to its next instruction on matrices, or its end."""
        inputs = (self._code.instructions, self._code.length, self._work, self._bounds, self._share)
        call = pl.pallas_call(
            partial(_advance, self._instructions, self._weights, self._interpret),
            out_shape=list(map(jax.typeof, files)),
            grid=(files.place.shape[0],),
            input_output_aliases={len(inputs) + number: number for number in range(len(files))},
            compiler_params=triton.CompilerParams(num_warps=_WARPS),
            interpret=self._interpret,
            name="optimizer_programs",
        )
        return Files(*call(*inputs, *files))


def _advance(
    instructions: InstructionSet,
    weights: int,
    interpret: bool,
    program: Ref,
    length: Ref,
    work: Ref,
    bounds: Ref,
    share: Ref,
    _place: Ref,
    _file: Ref,
    _scalars: Ref,
    place: Ref,
    file: Ref,
    scalars: Ref,
) -> None:
    """The kernel: one lane. The files that come in are those that go out."""
    lane = pl.program_id(0)
    block = _Block(weights, interpret, program, share, file, scalars, lane)
    end = length[lane]

    def number(i: Array) -> Array:
        """An instruction on numbers alone."""
        branches = [partial(block.number, one) for one in instructions.scalars[0]]
        block.put(i, lax.switch(block.field(i, OPCODE), branches, i))
        return i + 1

    def sum_(i: Array) -> Array:
        """Sums over the model that give a number."""
        sums = [one for group in instructions.scalars[1:] for one in group]
        firsts = np.cumsum([0, *(len(group) for group in instructions.scalars[1:])])
        which = block.field(i, OPCODE)
        for section, first in enumerate(firsts[1:-1].tolist(), 2):
            which = jnp.where(block.field(i, SECTION) == section + 1, which + first, which)
        block.put(i, lax.switch(which, [partial(block.total_number, one) for one in sums], i))
        return i + 1

    def elementwise(i: Array) -> Array:
        """A run of elementwise instructions, tile by tile."""
        last = lax.while_loop(
            lambda j: (j < end) & (work[lane, jnp.minimum(j, end - 1)] == Work.ELEMENTWISE),
            lambda j: j + 1,
            i + 1,
        )
        branches = [
            partial(block.element, one)
            if tensor_work(one) == Work.ELEMENTWISE
            else lambda i, tile: jnp.zeros(TILE, jnp.float32)
            for one in instructions.tensors
        ]

        def over_tile(tile: Array, nothing: Any) -> Any:
            def one(j: Array, nothing: Any) -> Any:
                value = lax.switch(block.field(j, OPCODE), branches, j, tile)
                block.store(j, tile, value, block.inside(tile, 0, weights))
                block.wait()
                return nothing

            return lax.fori_loop(i, last, one, nothing)

        lax.fori_loop(0, pl.cdiv(weights, TILE), over_tile, 0)
        return last

    def reducing(kind: Work, act: Callable[..., None]) -> Callable[[Array], Array]:
        """Instructions of one kind of work that give a tensor register."""
        among = [one for one in instructions.tensors if tensor_work(one) == kind]
        numbered = [n for n, one in enumerate(instructions.tensors) if tensor_work(one) == kind]

        def compute(i: Array) -> Array:
            which = jnp.int32(0)
            for place, opcode in enumerate(numbered):
                which = jnp.where(block.field(i, OPCODE) == opcode, place, which)

            def branch(one: Instruction) -> Callable[[Array], Array]:
                def run(i: Array) -> Array:
                    act(one, i)
                    return i + 1

                return run

            last: Array = lax.switch(which, [branch(one) for one in among], i)
            return last

        return compute if among else lambda i: i + 1

    def over_arrays(one: Instruction, i: Array) -> None:
        def each(array: Array, nothing: Any) -> Any:
            block.reduced(one, i, bounds[array], bounds[array + 1])
            return nothing

        lax.fori_loop(0, bounds.shape[0] - 1, each, 0)

    kinds = [
        elementwise,
        number,
        sum_ if len(instructions.scalars) > 1 else number,
        reducing(Work.SPREAD, lambda one, i: block.reduced(one, i, 0, weights)),
        reducing(Work.ARRAYWISE, over_arrays),
    ]

    def proceed(i: Array) -> Array:
        stays: Array = (i < end) & (work[lane, jnp.minimum(i, work.shape[1] - 1)] != Work.MATRIX)
        return stays

    def further(i: Array) -> Array:
        i = lax.switch(work[lane, i], kinds, i)
        block.wait()
        return i

    place[lane] = lax.while_loop(proceed, further, _place[lane])


class _Block:
    """What the threads of one lane do."""

    def __init__(
        self,
        weights: int,
        interpret: bool,
        program: Ref,
        share: Ref,
        file: Ref,
        scalars: Ref,
        lane: Array,
    ):
        self._weights = weights
        self._interpret = interpret
        self._program, self._share = program, share
        self._file, self._scalars = file, scalars
        self._lane = lane

    def field(self, i: Array, column: int) -> Array:
        """A column of instruction `i`."""
        value: Array = self._program[self._lane, i, column]
        return value

    def wait(self) -> None:
        """Until all threads have written what others may read next."""
        if not self._interpret:
            triton.debug_barrier()

    def inside(self, tile: Array, start: Any, end: Any) -> Array:
        """Which of a tile's weights are in [start, end)."""
        index = tile * TILE + lax.iota(jnp.int32, TILE)
        within: Array = (index >= start) & (index < end)
        return within

    def put(self, i: Array, value: Array) -> None:
        """Writes the number that instruction `i` gives."""
        self._scalars[self._lane, self.field(i, OUT)] = value

    def store(self, i: Array, tile: Array, value: Array, where: Array) -> None:
        """Writes a tile of what instruction `i` gives."""
        at = self._file.at[self._lane, self.field(i, OUT), pl.ds(tile * TILE, TILE)]
        triton.store(at, value, mask=where)

    def number(self, one: Instruction, i: Array) -> Array:
        """The value of an instruction on numbers."""
        operands = self._operands(one, i, None)
        if one.op.reduction is None:
            return jnp.asarray(one.op.meaning(jnp, *operands), jnp.float32)
        totals = one.op.reduction.inputs(jnp, *operands)  # the sum over a number is the number
        return jnp.asarray(one.op.meaning(jnp, totals, *operands), jnp.float32)

    def element(self, one: Instruction, i: Array, tile: Array) -> Array:
        """A tile of the value of an elementwise instruction."""
        op, operands = inner_applied(one, self._operands(one, i, tile))
        return jnp.broadcast_to(op.meaning(jnp, *operands), (TILE,)).astype(jnp.float32)

    def total_number(self, one: Instruction, i: Array) -> Array:
        """The value of an instruction that sums over the model and gives a number."""
        totals = self._totals(one, i, 0, self._weights)
        unread = [jnp.float32(0) for _ in one.layout]  # the meaning of such ops reads totals alone
        return jnp.asarray(one.op.meaning(jnp, totals, *unread), jnp.float32)

    def reduced(self, one: Instruction, i: Array, start: Any, end: Any) -> None:
        """Writes weights [start, end) of an instruction that sums over just those."""
        totals = self._totals(one, i, start, end)

        def write(tile: Array, nothing: Any) -> Any:
            value = one.op.meaning(jnp, totals, *self._operands(one, i, tile))
            value = jnp.broadcast_to(value, (TILE,)).astype(jnp.float32)
            self.store(i, tile, value, self.inside(tile, start, end))
            return nothing

        lax.fori_loop(*_tiles(start, end), write, 0)

    def _totals(self, one: Instruction, i: Array, start: Any, end: Any) -> tuple[Array, ...]:
        """The sums, or means, of an instruction over weights [start, end)."""
        reduction = one.op.reduction
        assert reduction is not None
        count = len(
            jax.eval_shape(partial(reduction.inputs, jnp), *[jnp.zeros(1)] * len(one.layout))
        )

        def add(tile: Array, sums: Sequence[Array]) -> Sequence[Array]:
            inputs = reduction.inputs(jnp, *self._operands(one, i, tile))
            where = self.inside(tile, start, end)
            if reduction.how == "sum":
                inputs = tuple(x * self._own(i, tile) for x in inputs)
            return [total + jnp.where(where, x, 0.0) for total, x in zip(sums, inputs, strict=True)]

        nothing = [jnp.zeros(TILE, jnp.float32)] * count
        sums = lax.fori_loop(*_tiles(start, end), add, nothing)
        self.wait()  # all have read before anybody writes
        size = 1.0 if reduction.how == "sum" else (end - start) * 1.0
        return tuple(total.sum() / size for total in sums)

    def _operands(self, one: Instruction, i: Array, tile: Array | None) -> list[Array]:
        found = []
        for place, kept in enumerate(one.layout):
            register = self.field(i, FIRST + place)
            if kept == "S":
                found.append(self._scalars[self._lane, register])
            else:
                found.append(self._load(self._file, (self._lane, register), tile))
        return found

    def _own(self, i: Array, tile: Array) -> Array:
        return self._load(self._share, (self.field(i, KIND),), tile)

    def _load(self, rows: Ref, row: tuple[Array, ...], tile: Array | None) -> Array:
        assert tile is not None
        where = self.inside(tile, 0, self._weights)
        return triton.load(rows.at[*row, pl.ds(tile * TILE, TILE)], mask=where, other=0.0)


def _tiles(start: Any, end: Any) -> tuple[Any, Any]:
    """The tiles that [start, end) touches."""
    return start // TILE, pl.cdiv(end, TILE)
