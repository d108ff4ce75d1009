"""The kind of work that the kernel does for each instruction of the machine."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from primitives.kinds import Kind
from primitives.machine.arrays import ArrayLayout
from primitives.machine.batch.gangs import form_key
from primitives.machine.batch.kernel.model_tables import tables_of
from primitives.machine.encoding import OPCODE, SECTION, Code
from primitives.machine.instructions import Instruction, InstructionSet

MAX_MATRIX = 2**14
"""Largest matrix, in weights, whose products the kernel computes."""


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
        by_kind_of_work: for each kind of work, an instruction for each branch of the kernel.
            Elementwise instructions that differ only in the layout of their operands share a
            branch.
        table: [instructions, 3] int32: the kind of work of each instruction, the index of its
            branch, and a bit for each operand, which is set if the operand is a tensor.
            Instructions with tensor results come first, then those of each scalar group.
        starts: [sections] int32, the row of `table` at which each section of opcodes begins.
    """

    by_kind_of_work: dict[Work, list[Instruction]]
    table: np.ndarray
    starts: np.ndarray

    def rows_of(self, code: Code) -> jax.Array:
        """Return the rows of `table` for the lanes' programs, [lanes, instructions, 3]."""
        section, opcode = (code.instructions[..., column] for column in (SECTION, OPCODE))
        return jnp.asarray(self.table)[jnp.asarray(self.starts)[section] + opcode]


def branches_of(instructions: InstructionSet, model: ArrayLayout) -> Branches:
    """Return the branches of the kernel for a machine's instructions and a model."""
    matrix_work = Work.MATRIX if _fits(model) else Work.OUTSIDE
    sections = [instructions.tensor_instructions, *instructions.scalar_groups]
    by_kind_of_work: dict[Work, list[Instruction]] = {work: [] for work in Work}
    branch_indices: dict[Any, int] = {}
    table = []
    for index, section in enumerate(sections):
        for instruction in section:
            if index == 0:
                work = _tensor_work(instruction, matrix_work)
            else:
                work = Work.SCALAR if index == 1 else Work.SUM_TO_SCALAR
            is_elementwise = work == Work.ELEMENTWISE
            key = work, form_key(instruction) if is_elementwise else instruction
            if key not in branch_indices:
                branch_indices[key] = len(by_kind_of_work[work])
                by_kind_of_work[work].append(instruction)
            tensor_bits = [
                1 << operand for operand, letter in enumerate(instruction.layout) if letter == "T"
            ]
            table.append((work, branch_indices[key], sum(tensor_bits)))
    starts = np.cumsum([0, *map(len, sections)])[:-1]
    return Branches(by_kind_of_work, np.array(table, np.int32), starts.astype(np.int32))


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
    return tables_of(model).largest_matrix <= MAX_MATRIX
