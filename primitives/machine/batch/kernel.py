"""Programs side by side as a Pallas kernel: each lane a block of threads with its own branches.

A block runs its program as far as the kernel's instructions go. A run of elementwise instructions
goes over the weights a tile at a time, all instructions of the run for one tile before the next
tile, so that what one writes the next reads from the cache; sums split the runs. What acts on
matrices (rows, columns, products) is left to the gangs between two calls of the kernel; programs
without it need one call a step.
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
from primitives.machine.arrays import Arrays
from primitives.machine.batch.gangs import Files, Gangs
from primitives.machine.encoding import FIRST, KIND, OPCODE, OUT, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet
from primitives.machine.step import inner_applied

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


class Branches(NamedTuple):
    """The machine's instructions by the work they take.

    Attributes:
        among: for each kind of work its instructions: a branch of the kernel each.
        table: [instructions, 2], the work of each instruction and which of its branches it is;
            those that give a tensor register first, then those of each group of numbers.
        starts: [sections], where each section's instructions begin in the table.
    """

    among: dict[Work, list[Instruction]]
    table: np.ndarray
    starts: np.ndarray

    def of(self, code: Code) -> Array:
        """[lanes, instructions, 2], the rows of the table for programs."""
        section, opcode = (code.instructions[..., column] for column in (SECTION, OPCODE))
        return jnp.asarray(self.table)[jnp.asarray(self.starts)[section] + opcode]


def branches_of(instructions: InstructionSet) -> Branches:
    """What each instruction of a machine takes."""
    sections = [instructions.tensors, *instructions.scalars]
    among: dict[Work, list[Instruction]] = {work: [] for work in Work}
    table = []
    for number, section in enumerate(sections):
        for one in section:
            work = _tensor_work(one) if number == 0 else Work.NUMBER if number == 1 else Work.SUM
            table.append((work, len(among[work])))
            among[work].append(one)
    starts = np.cumsum([0, *map(len, sections)])[:-1]
    return Branches(among, np.array(table, np.int32), starts.astype(np.int32))


def _tensor_work(one: Instruction) -> Work:
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
    branches = branches_of(instructions)
    steps = branches.of(code)
    bounds = jnp.asarray(model.bounds, jnp.int32)

    def advance(files: Files) -> Files:
        """Every lane up to its next instruction on matrices, or its end."""
        inputs = (code.instructions, code.length, steps, bounds, share)
        call = pl.pallas_call(
            partial(_lane, branches.among, model.size, interpret),
            out_shape=list(map(jax.typeof, files)),
            grid=(files.place.shape[0],),
            input_output_aliases={len(inputs) + number: number for number in range(len(files))},
            compiler_params=triton.CompilerParams(num_warps=_WARPS),
            interpret=interpret,
            name="optimizer_programs",
        )
        return Files(*call(*inputs, *files))

    start = Files(jnp.zeros(file.shape[0], jnp.int32), file, scalars)
    if not branches.among[Work.MATRIX]:
        end = advance(start)
        return end.file, end.scalars
    gangs = Gangs(instructions, model, code, share)
    on_matrices = jnp.asarray(branches.table[: len(instructions.tensors), 0] == Work.MATRIX)

    def further(files: Files) -> Files:
        return gangs.tensors(advance(files), among=lambda opcode: on_matrices[opcode])

    end = lax.while_loop(gangs.running, further, start)
    return end.file, end.scalars


def _lane(
    among: dict[Work, list[Instruction]],
    weights: int,
    interpret: bool,
    program: Ref,
    length: Ref,
    steps: Ref,
    bounds: Ref,
    share: Ref,
    place_before: Ref,
    _file: Ref,
    _scalars: Ref,
    place: Ref,
    file: Ref,
    scalars: Ref,
) -> None:
    """The kernel: one lane. The files that come in are those that go out."""
    lane = pl.program_id(0)
    block = _Block(
        lane, among, weights, interpret, program, length[lane], steps, bounds, share, file, scalars
    )
    place[lane] = lax.while_loop(block.goes_on, block.further, place_before[lane])


@dataclass(frozen=True)
class _Block:
    """What the threads of one lane do; the references are to all lanes' arrays."""

    lane: Array
    among: dict[Work, list[Instruction]]
    weights: int
    interpret: bool
    program: Ref
    end: Array
    steps: Ref
    bounds: Ref
    share: Ref
    file: Ref
    scalars: Ref

    def goes_on(self, i: Array) -> Array:
        """Whether instruction `i` is the kernel's to run."""
        inside: Array = i < self.end
        return inside & (self._work(jnp.minimum(i, self.steps.shape[1] - 1)) != Work.MATRIX)

    def further(self, i: Array) -> Array:
        """Runs instruction `i`, or the run of instructions that begins there; what comes next."""
        ways = [self._elementwise, self._number, self._sum, self._spread, self._arraywise]
        known = [way if self.among[Work(work)] else _nothing for work, way in enumerate(ways)]
        following: Array = lax.switch(self._work(i), known, i)
        self._wait()
        return following

    def _elementwise(self, i: Array) -> Array:
        """A run of elementwise instructions, tile by tile."""

        def another(j: Array) -> Array:
            inside: Array = j < self.end
            return inside & (self._work(jnp.minimum(j, self.end - 1)) == Work.ELEMENTWISE)

        last: Array = lax.while_loop(another, lambda j: j + 1, i + 1)

        def element(one: Instruction, j: Array, tile: Array) -> Array:
            op, operands = inner_applied(one, self._operands(one, j, tile))
            return _spread(op.meaning(jnp, *operands))

        def on_tile(tile: Array) -> None:
            def one(j: Array) -> None:
                value = self._chosen(Work.ELEMENTWISE, element, j, tile)
                self._store(j, tile, value, self._inside(tile, 0, self.weights))
                self._wait()

            _each(i, last, one)

        _each(0, pl.cdiv(self.weights, TILE), on_tile)
        return last

    def _number(self, i: Array) -> Array:
        """An instruction on numbers alone."""

        def number(one: Instruction, i: Array) -> Array:
            operands = self._operands(one, i, None)
            return jnp.asarray(one.op.of_numbers(jnp, *operands), jnp.float32)

        self._put(i, self._chosen(Work.NUMBER, number, i))
        return i + 1

    def _sum(self, i: Array) -> Array:
        """Sums over the model that give a number."""

        def total(one: Instruction, i: Array) -> Array:
            totals = self._totals(one, i, 0, self.weights)
            unread = [jnp.float32(0) for _ in one.layout]  # such ops' meaning reads totals alone
            return jnp.asarray(one.op.meaning(jnp, totals, *unread), jnp.float32)

        self._put(i, self._chosen(Work.SUM, total, i))
        return i + 1

    def _spread(self, i: Array) -> Array:
        """Sums over the model and then each element."""

        def reduced(one: Instruction, i: Array) -> Array:
            self._reduced(one, i, 0, self.weights)
            return i + 1

        return self._chosen(Work.SPREAD, reduced, i)

    def _arraywise(self, i: Array) -> Array:
        """Sums over each array and then each of its elements."""

        def reduced(one: Instruction, i: Array) -> Array:
            def on_array(array: Array) -> None:
                self._reduced(one, i, self.bounds[array], self.bounds[array + 1])

            _each(0, self.bounds.shape[0] - 1, on_array)
            return i + 1

        return self._chosen(Work.ARRAYWISE, reduced, i)

    def _chosen(self, work: Work, compute: Callable[..., Array], i: Array, *more: Array) -> Array:
        """`compute` of the instruction that `i` is, among those of one kind of work."""
        branches = [partial(compute, one) for one in self.among[work]]
        value: Array = lax.switch(self.steps[self.lane, i, 1], branches, i, *more)
        return value

    def _reduced(self, one: Instruction, i: Array, start: Any, end: Any) -> None:
        """Writes weights [start, end) of an instruction that sums over just those."""
        totals = self._totals(one, i, start, end)

        def on_tile(tile: Array) -> None:
            value = _spread(one.op.meaning(jnp, totals, *self._operands(one, i, tile)))
            self._store(i, tile, value, self._inside(tile, start, end))

        _each(*_tiles(start, end), on_tile)

    def _totals(self, one: Instruction, i: Array, start: Any, end: Any) -> tuple[Array, ...]:
        """The sums, or means, of an instruction over weights [start, end)."""
        reduction = one.op.reduction
        assert reduction is not None
        numbers = [np.float32(0)] * len(one.layout)
        count = len(reduction.inputs(np, *numbers))

        def add(tile: Array, sums: Sequence[Array]) -> Sequence[Array]:
            inputs = reduction.inputs(jnp, *self._operands(one, i, tile))
            where = self._inside(tile, start, end)
            if reduction.how == "sum":
                own = self._load(self.share, (self._field(i, KIND),), tile)
                inputs = tuple(x * own for x in inputs)
            return [total + jnp.where(where, x, 0.0) for total, x in zip(sums, inputs, strict=True)]

        nothing = [jnp.zeros(TILE, jnp.float32)] * count
        sums = lax.fori_loop(*_tiles(start, end), add, nothing)
        self._wait()  # all have read before anybody writes
        size = 1.0 if reduction.how == "sum" else (end - start) * 1.0
        return tuple(total.sum() / size for total in sums)

    def _work(self, i: Array) -> Array:
        work: Array = self.steps[self.lane, i, 0]
        return work

    def _field(self, i: Array, column: int) -> Array:
        value: Array = self.program[self.lane, i, column]
        return value

    def _wait(self) -> None:
        """Until all threads have written what others may read next."""
        if not self.interpret:
            triton.debug_barrier()

    def _inside(self, tile: Array, start: Any, end: Any) -> Array:
        """Which of a tile's weights are in [start, end)."""
        index = tile * TILE + lax.iota(jnp.int32, TILE)
        within: Array = (index >= start) & (index < end)
        return within

    def _put(self, i: Array, value: Array) -> None:
        """Writes the number that instruction `i` gives."""
        self.scalars[self.lane, self._field(i, OUT)] = value

    def _store(self, i: Array, tile: Array, value: Array, where: Array) -> None:
        """Writes a tile of what instruction `i` gives."""
        at = self.file.at[self.lane, self._field(i, OUT), pl.ds(tile * TILE, TILE)]
        triton.store(at, value, mask=where)

    def _operands(self, one: Instruction, i: Array, tile: Array | None) -> list[Array]:
        found = []
        for place, kept in enumerate(one.layout):
            register = self._field(i, FIRST + place)
            if kept == "S":
                found.append(self.scalars[self.lane, register])
            else:
                found.append(self._load(self.file, (self.lane, register), tile))
        return found

    def _load(self, rows: Ref, row: tuple[Array, ...], tile: Array | None) -> Array:
        assert tile is not None
        where = self._inside(tile, 0, self.weights)
        value: Array = triton.load(rows.at[*row, pl.ds(tile * TILE, TILE)], mask=where, other=0.0)
        return value


def _nothing(i: Array) -> Array:
    return i + 1


def _spread(value: Any) -> Array:
    """A value, one number or a tile, as a tile."""
    return jnp.broadcast_to(value, (TILE,)).astype(jnp.float32)


def _each(first: Any, end: Any, act: Callable[[Array], None]) -> None:
    def step(i: Array, nothing: int) -> int:
        act(i)
        return nothing

    lax.fori_loop(first, end, step, 0)


def _tiles(start: Any, end: Any) -> tuple[Any, Any]:
    """The tiles that [start, end) touches."""
    return start // TILE, pl.cdiv(end, TILE)
