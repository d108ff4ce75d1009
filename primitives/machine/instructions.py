"""The instructions of the interpreter: one for each op and layout of its operands.

The machine has tensor registers, each a vector over all weights of the model, and scalar registers,
each one number. A value of any kind other than scalar is broadcast to a tensor register. An op that
sums over such a value reads the value's kind from the instruction. A layout names the registers of
the operands: "TS" is a tensor register and a scalar register. With an instruction for each layout,
no scalar has to be broadcast, and no operand has to be copied, before an op.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS

OpNames: TypeAlias = frozenset[str]

ALL_OPS: OpNames = frozenset(OPS)


@dataclass(frozen=True)
class Instruction:
    """An op for one layout of its operands.

    A fused instruction computes a common pair of statements in one pass over memory.

    Attributes:
        op: the op.
        layout: a letter for each operand, "T" for a tensor register and "S" for a scalar register.
            In a fused instruction the inner op's operands replace operand `position`.
        result: the letter of the result's register.
        inner: in a fused instruction, the op that computes operand `position` of `op`.
        position: the index of the operand of `op` that `inner` computes.
    """

    op: Op
    layout: str
    result: str
    inner: Op | None = None
    position: int = 0


Signature: TypeAlias = tuple[str, str | None, int, str, str]
"""The key of an instruction: op, inner op, position, layout and result."""


@dataclass(frozen=True)
class InstructionSet:
    """The instructions for some ops.

    Attributes:
        tensor_instructions: instructions with a tensor result; each is a branch of the machine.
        scalar_groups: instructions with a scalar result, in groups that share a branch. The first
            group has scalar operands only; the others reduce over the model, grouped by their
            number of sums.
        opcodes: section and opcode of each instruction. Section 0 is `tensor_instructions`, section
            k + 1 is `scalar_groups[k]`; the opcode is the index in the section.
    """

    tensor_instructions: tuple[Instruction, ...]
    scalar_groups: tuple[tuple[Instruction, ...], ...]
    opcodes: Mapping[Signature, tuple[int, int]]


FUSED_PAIRS = (
    ("interp", 0, "square"),
    ("divide", 1, "sqrt"),
    ("add", 1, "multiply"),
    ("subtract", 1, "multiply"),
    ("multiply", 0, "sign"),
)
"""Outer op, position and inner op of pairs that are frequent in adaptive optimizers."""


@cache
def instruction_set(ops: OpNames = ALL_OPS) -> InstructionSet:
    """Return the instructions for the ops with these names, their fused pairs, and copies."""
    table = _instructions(ops)
    tensor_instructions = tuple(instruction for instruction in table if instruction.result == "T")
    by_sums: dict[int, list[Instruction]] = {0: []}
    for instruction in table:
        if instruction.result == "S":
            by_sums.setdefault(_sum_count(instruction), []).append(instruction)
    scalar_groups = tuple(tuple(group) for group in by_sums.values())
    opcodes = {
        signature(instruction): (section, opcode)
        for section, group in enumerate((tensor_instructions, *scalar_groups))
        for opcode, instruction in enumerate(group)
    }
    return InstructionSet(tensor_instructions, scalar_groups, opcodes)


def signature(instruction: Instruction) -> Signature:
    """Return the key of `instruction` in `InstructionSet.opcodes`."""
    inner = instruction.inner.name if instruction.inner else None
    return (
        instruction.op.name,
        inner,
        instruction.position,
        instruction.layout,
        instruction.result,
    )


def _instructions(ops: Set[str]) -> list[Instruction]:
    ops = {OPS[name].same_as or name for name in ops}
    table = [Instruction(OPS["identity"], *layout) for layout in ("TT", "ST", "SS")]
    for op in OPS.values():
        if op.name in ops and op.arity and op.name != "identity":
            table += [Instruction(op, layout, _result_class(op, layout)) for layout in _layouts(op)]
    for outer, position, inner in FUSED_PAIRS:
        if {outer, inner} <= ops:
            for inner_layout in _layouts(OPS[inner]):
                if "T" in inner_layout:
                    table += _fused(OPS[outer], position, OPS[inner], inner_layout)
    return table


def _layouts(op: Op) -> list[str]:
    choices = ["TS" if kind_letter == "x" else "S" for kind_letter in op.operands]
    layouts = ["".join(choice) for choice in itertools.product(*choices)]
    return [layout for layout in layouts if not (op.commutative and layout == "ST")]


def _result_class(op: Op, layout: str) -> str:
    to_scalar = op.reduction and not op.keeps_kind and op.reduction.kind == Kind.SCALAR
    return "S" if to_scalar or "T" not in layout else "T"


def _fused(outer: Op, position: int, inner: Op, inner_layout: str) -> list[Instruction]:
    choices = ["TS" if kind_letter == "x" else "S" for kind_letter in outer.operands]
    choices[position] = "T"
    return [
        Instruction(
            outer,
            "".join(layout[:position]) + inner_layout + "".join(layout[position + 1 :]),
            "T",
            inner,
            position,
        )
        for layout in itertools.product(*choices)
    ]


def _sum_count(instruction: Instruction) -> int:
    """Return the number of sums over the model; 0 if all operands are scalars."""
    if "T" not in instruction.layout:
        return 0
    assert instruction.op.reduction is not None
    return len(instruction.op.reduction.inputs(None, *[1.0] * instruction.op.arity))
