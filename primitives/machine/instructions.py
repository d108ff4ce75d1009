"""The instruction table of the compile-once machine: each op, once for each layout of its operands.

The machine has a file of tensor registers, each a vector over all weights of the model, and a file
of scalar registers. A value smaller than a tensor and larger than a scalar is kept broadcast in a
tensor register; ops that sum it learn its kind from the instruction. Each op has one instruction
for each layout of its operands ("TS": first tensor, second scalar), so that no scalar is ever
spread to a vector and no operand is copied that an op does not read.
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
    """`op` for one layout of its operands; a `T` or an `S` each.

    With `inner`, operand `position` of `op` is first computed as `inner` of its own operands, so
    that a common pair of statements costs one pass over memory; `layout` then lists the operands
    with the inner ones in that place.
    """

    op: Op
    layout: str
    result: str
    inner: Op | None = None
    position: int = 0


Signature: TypeAlias = tuple[str, str | None, int, str, str]
"""Op, inner op, its position, layout and result: what an instruction is looked up by."""


@dataclass(frozen=True)
class InstructionSet:
    """The instructions for some ops.

    Attributes:
        tensors: those that give a tensor register; a branch of the machine each.
        scalars: those that give a number, in groups that share a branch: first those on numbers
            alone, then reductions over the model by how many sums they take.
        opcodes: the (section, number) of each: section 0 is `tensors`, section k + 1 group k.
    """

    tensors: tuple[Instruction, ...]
    scalars: tuple[tuple[Instruction, ...], ...]
    opcodes: Mapping[Signature, tuple[int, int]]


FUSED_PAIRS = (
    ("interp", 0, "square"),
    ("divide", 1, "sqrt"),
    ("add", 1, "multiply"),
    ("subtract", 1, "multiply"),
    ("multiply", 0, "sign"),
)
"""Pairs of statements that come up in most adaptive optimizers and their descendants."""


@cache
def instruction_set(ops: OpNames = ALL_OPS) -> InstructionSet:
    """The instructions for the ops named, fused pairs of them, and copies."""
    table = _instructions(ops)
    tensors = tuple(one for one in table if one.result == "T")
    by_sums: dict[int, list[Instruction]] = {0: []}
    for one in table:
        if one.result == "S":
            by_sums.setdefault(_sums(one), []).append(one)
    scalars = tuple(tuple(group) for group in by_sums.values())
    opcodes = {
        signature(one): (section, number)
        for section, group in enumerate((tensors, *scalars))
        for number, one in enumerate(group)
    }
    return InstructionSet(tensors, scalars, opcodes)


def signature(one: Instruction) -> Signature:
    """What `one` is looked up by."""
    inner = one.inner.name if one.inner else None
    return (one.op.name, inner, one.position, one.layout, one.result)


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
    choices = ["TS" if want == "x" else "S" for want in op.operands]
    layouts = ["".join(choice) for choice in itertools.product(*choices)]
    if op.matrixwise:
        layouts.remove("S")
    return [one for one in layouts if not (op.commutative and one == "ST")]


def _result_class(op: Op, layout: str) -> str:
    to_scalar = op.reduction and not op.keeps_kind and op.reduction.scope == Kind.SCALAR
    return "S" if to_scalar or "T" not in layout else "T"


def _fused(outer: Op, position: int, inner: Op, inner_layout: str) -> list[Instruction]:
    choices = ["TS" if want == "x" else "S" for want in outer.operands]
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


def _sums(one: Instruction) -> int:
    """How many sums over the model an instruction takes; none if it reads numbers alone."""
    if "T" not in one.layout:
        return 0
    assert one.op.reduction is not None
    return len(one.op.reduction.inputs(None, *[1.0] * one.op.arity))
