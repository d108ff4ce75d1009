"""Programs as data: the instruction table, and the encoder from programs to instructions.

The machine has a file of tensor registers, each a vector over all weights of the model, and a file
of scalar registers. A value smaller than a tensor and larger than a scalar is kept broadcast in a
tensor register; ops that sum it learn its kind from the instruction. Each op has one instruction
for each layout of its operands ("TS": first tensor, second scalar), so that no scalar is ever
spread to a vector and no operand is copied that an op does not read.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from primitives.analysis import Analysis, analyse
from primitives.kinds import Kind, join
from primitives.ops import OPS, Op
from primitives.program import MAX_STATEMENTS, Program

Array = Any  # of NumPy as `encode` returns it, of JAX inside the machine

TENSOR_REGISTERS = 24
SCALAR_REGISTERS = 96
MAX_INSTRUCTIONS = MAX_STATEMENTS + 16
OPCODE, OUT, FIRST, KIND, SECTION = 0, 1, 2, 6, 7
"""Columns of an instruction; up to four operands start at FIRST."""
_WIDTH = 8
_TINY = float(np.finfo(np.float32).tiny)
_WEIGHT, _GRADIENT = 0, 1
_LR, _T = 0, 1
_INPUTS = {"lr": _LR, "t": _T}


class CapacityError(ValueError):
    """The program needs more registers than the machine has; compile it instead."""


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


class Code(NamedTuple):
    """An encoded program: arrays of fixed shape, so that one compiled machine runs them all."""

    instructions: Array  # [MAX_INSTRUCTIONS, 8] int32
    length: Array  # () int32
    rows: Array  # [TENSOR_REGISTERS] float32, what the registers start with
    scalars: Array  # [SCALAR_REGISTERS] float32, likewise
    update: Array  # () int32, the register that holds the update after a step


_FUSED_PAIRS = (
    ("interp", 0, "square"),
    ("divide", 1, "sqrt"),
    ("add", 1, "multiply"),
    ("subtract", 1, "multiply"),
    ("multiply", 0, "sign"),
)
"""Pairs of statements that come up in most adaptive optimizers and their descendants."""


def _layouts(op: Op) -> list[str]:
    choices = ["TS" if want == "x" else "S" for want in op.operands]
    layouts = ["".join(choice) for choice in itertools.product(*choices)]
    return [one for one in layouts if not (op.commutative and one == "ST")]


def _result_class(op: Op, layout: str) -> str:
    to_scalar = op.reduction and not op.keeps_kind and op.reduction.scope == Kind.SCALAR
    return "S" if to_scalar or "T" not in layout else "T"


def _instructions() -> list[Instruction]:
    table = []
    for op in OPS.values():
        if op.arity and op.same_as is None:
            table += [Instruction(op, layout, _result_class(op, layout)) for layout in _layouts(op)]
    table.append(Instruction(OPS["identity"], "S", "T"))
    for outer, position, inner in _FUSED_PAIRS:
        for inner_layout in _layouts(OPS[inner]):
            if "T" in inner_layout:
                table += _fused(OPS[outer], position, OPS[inner], inner_layout)
    return table


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


_ALL = _instructions()
TENSOR_INSTRUCTIONS = tuple(one for one in _ALL if one.result == "T")
NUMBER_INSTRUCTIONS = tuple(one for one in _ALL if one.result == "S" and "T" not in one.layout)
SCALAR_INSTRUCTIONS = NUMBER_INSTRUCTIONS + tuple(
    one for one in _ALL if one.result == "S" and "T" in one.layout
)
_OPCODES = {
    (one.op.name, one.inner and one.inner.name, one.position, one.layout, one.result): number
    for table in (TENSOR_INSTRUCTIONS, SCALAR_INSTRUCTIONS)
    for number, one in enumerate(table)
}


def encode(program: Program) -> Code:
    """`program`'s live statements as instructions.

    Raises:
        CapacityError: it needs more registers than there are.
        StatementError: it is ill-kinded.
    """
    return _Encoder(analyse(program)).encode()


@dataclass
class _Node:
    """One value to compute: an op on earlier values (numbers) and constants."""

    op: Op
    args: tuple[int | float, ...]
    inner: Op | None = None
    position: int = 0


class _Encoder:
    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.parameters = analysis.program.parameters
        self.count = len(self.parameters)
        self.kinds = analysis.kinds
        self.known: dict[int, int | float] = {}  # values that are constants or copies of others
        self.nodes = self._nodes()
        self.update = self._resolved(analysis.outputs[0])
        self.next_value = {
            state: self._resolved(analysis.next_value[state]) for state in analysis.live_states
        }
        outputs = (self.update, *self.next_value.values())
        self.kept = {value for value in outputs if type(value) is int}  # needed after the step
        self._fuse_pairs()
        self.constants: dict[float, int] = {}
        self.row_values = np.zeros(TENSOR_REGISTERS, np.float32)
        self.scalar_values = np.zeros(SCALAR_REGISTERS, np.float32)
        self.free = {
            "T": list(range(TENSOR_REGISTERS - 1, _GRADIENT, -1)),
            "S": list(range(SCALAR_REGISTERS - 1, _T, -1)),
        }
        self.place: dict[int, tuple[str, int]] = {}
        self.code: list[list[int]] = []

    def _resolved(self, value: int | float) -> int | float:
        return self.known.get(value, value) if type(value) is int else value

    def _nodes(self) -> dict[int, _Node]:
        """The live values in order; constant expressions are folded and copies resolved."""
        program = self.analysis.program
        nodes: dict[int, _Node] = {}
        for index in self.analysis.live_statements:
            op = OPS[program.statements[index].op]
            op = OPS[op.same_as] if op.same_as else op
            args = tuple([self._resolved(arg) for arg in self.analysis.operands[index]])
            value = self.count + index
            if op.name == "identity":
                self.known[value] = args[0]
            elif int in map(type, args):
                nodes[value] = _Node(op, args)
            else:
                folded = _evaluate(op, args)
                if math.isfinite(folded):
                    self.known[value] = folded
                else:  # no register may start as infinite or NaN: it is computed instead
                    nodes[value] = _Node(op, args)
        return nodes

    def _fuse_pairs(self) -> None:
        """Merges a value into its only reader where the pair has an instruction of its own."""
        readers: dict[int, list[int]] = defaultdict(list)
        for value, node in self.nodes.items():
            for arg in node.args:
                if type(arg) is int:
                    readers[arg].append(value)
        for outer, position, inner in _FUSED_PAIRS:
            for node in list(self.nodes.values()):
                if node.op.name != outer or node.inner:
                    continue
                if node.op.commutative and not self._is_pair(node.args[position], inner):
                    node.args = node.args[::-1]
                arg = node.args[position]
                if not self._is_pair(arg, inner) or arg in self.kept or len(readers[arg]) > 1:
                    continue
                merged = self.nodes.pop(arg)
                node.inner, node.position = merged.op, position
                node.args = (*node.args[:position], *merged.args, *node.args[position + 1 :])

    def _is_pair(self, arg: int | float, inner: str) -> TypeGuard[int]:
        """Whether `arg` is computed by a plain `inner` and kept in a tensor register."""
        if type(arg) is not int or arg not in self.nodes:
            return False
        node = self.nodes[arg]
        return node.op.name == inner and node.inner is None and self._class(arg) == "T"

    def _class(self, arg: int | float) -> str:
        return "T" if type(arg) is int and self.kinds[arg] else "S"

    def encode(self) -> Code:
        self._place_parameters()
        self._place_constants()
        order = self._scheduled()
        self.reads = self._last_reads(order)
        for moment, value in enumerate(order):
            self._emit_node(value, moment)
        update = self._settle()
        if len(self.code) > MAX_INSTRUCTIONS:
            raise CapacityError(f"{len(self.code)} instructions; at most {MAX_INSTRUCTIONS}")
        instructions = np.zeros((MAX_INSTRUCTIONS, _WIDTH), np.int32)
        instructions[: len(self.code)] = np.reshape(self.code, (-1, _WIDTH))
        return Code(
            instructions,
            np.asarray(len(self.code), np.int32),
            self.row_values,
            self.scalar_values,
            np.asarray(update, np.int32),
        )

    def _place_parameters(self) -> None:
        for number, parameter in enumerate(self.parameters):
            if number < 2:
                self.place[number] = ("T", number)
            elif number in self.next_value:
                kept = "S" if parameter.kind == Kind.SCALAR else "T"
                self.place[number] = (kept, self._take(kept))
                initial = self.scalar_values if kept == "S" else self.row_values
                initial[self.place[number][1]] = parameter.initial
            elif number not in self.analysis.next_value:
                self.place[number] = ("S", _INPUTS[parameter.name])

    def _place_constants(self) -> None:
        """Gives every constant a register of its own, which no temporary ever overwrites."""
        used = [arg for node in self.nodes.values() for arg in node.args]
        for arg in [*used, self.update, *self.next_value.values()]:
            if type(arg) is float and arg not in self.constants:
                self.constants[arg] = self._take("S")
                self.scalar_values[self.constants[arg]] = arg

    def _take(self, kept: str) -> int:
        if not self.free[kept]:
            limit = TENSOR_REGISTERS if kept == "T" else SCALAR_REGISTERS
            raise CapacityError(f"more than {limit} values at a time")
        return self.free[kept].pop()

    def _scheduled(self) -> list[int]:
        """Scalars as early as possible: alternating blocks of scalar and tensor instructions."""
        pending = list(self.nodes)
        done: set[int] = set(range(self.count))
        order: list[int] = []
        while pending:
            ready = [value for value in pending if self._ready(value, done)]
            scalars = [value for value in ready if self._class(value) == "S"]
            chosen = scalars or ready[:1]
            order += chosen
            done |= set(chosen)
            pending = [value for value in pending if value not in done]
        return order

    def _ready(self, value: int, done: set[int]) -> bool:
        return all(type(arg) is float or arg in done for arg in self.nodes[value].args)

    def _last_reads(self, order: list[int]) -> dict[int, int]:
        last: dict[int, int] = {}
        for moment, value in enumerate(order):
            for arg in self.nodes[value].args:
                if type(arg) is int:
                    last[arg] = moment
        for value in self.kept:
            last[value] = len(order)
        return last

    def _emit_node(self, value: int, moment: int) -> None:
        node = self.nodes[value]
        operands = [self._operand(arg) for arg in node.args]
        for arg in {arg for arg in node.args if type(arg) is int and arg >= self.count}:
            if self.reads[arg] == moment:
                kept, register = self.place[arg]
                self.free[kept].append(register)
        kept = self._class(value)
        self.place[value] = (kept, self._target(value, kept, moment))
        self._emit(node, operands, self.place[value])

    def _operand(self, arg: int | float) -> tuple[str, int]:
        return self.place[arg] if type(arg) is int else ("S", self.constants[arg])

    def _target(self, value: int, kept: str, moment: int) -> int:
        """The register of a new value: that of the state it becomes, once the old is not needed."""
        for state, becomes in self.next_value.items():
            if (
                type(becomes) is int
                and becomes == value
                and self.place[state][0] == kept
                and self.reads.get(state, -1) <= moment
            ):
                return self.place[state][1]
        return self._take(kept)

    def _emit(self, node: _Node, operands: list[tuple[str, int]], out: tuple[str, int]) -> None:
        if node.op.commutative and node.inner is None and operands[0][0] < operands[1][0]:
            operands.reverse()
        layout = "".join(kept for kept, _ in operands)
        inner = node.inner and node.inner.name
        if inner and (node.op.name, inner, node.position, layout, out[0]) not in _OPCODES:
            operands, layout = self._swapped_inner(node, operands)
        opcode = _OPCODES[node.op.name, inner, node.position, layout, out[0]]
        kinds = [self.kinds[a] if type(a) is int else Kind.SCALAR for a in node.args]
        row = [opcode, out[1], *(register for _, register in operands)]
        row += [0] * (KIND - len(row)) + [reduce(join, kinds, Kind.SCALAR), int(out[0] == "S")]
        self.code.append(row)

    def _swapped_inner(
        self, node: _Node, operands: list[tuple[str, int]]
    ) -> tuple[list[tuple[str, int]], str]:
        """The operands with the two of a commutative inner op exchanged."""
        p = node.position
        swapped = [*operands[:p], operands[p + 1], operands[p], *operands[p + 2 :]]
        return swapped, "".join(kept for kept, _ in swapped)

    def _settle(self) -> int:
        """Moves what is not yet there into the states' registers; the update's register.

        A state that becomes another's old value, or two that change places, read a register that a
        move may overwrite; so such values are saved before any state is written.
        """
        moves: list[tuple[tuple[str, int], tuple[str, int]]] = []
        for state, value in self.next_value.items():
            source, target = self._operand(value), self.place[state]
            if source == target:
                continue
            if type(value) is int and value in self.next_value:
                saved = (source[0], self._take(source[0]))
                self._move(source, saved)
                source = saved
            moves.append((source, target))
        update = self._operand(self.update)
        if update[0] == "S" or update in [target for _, target in moves]:
            filled = ("T", self._take("T"))
            self._move(update, filled)
            update = filled
        for source, target in moves:
            self._move(source, target)
        return update[1]

    def _move(self, source: tuple[str, int], target: tuple[str, int]) -> None:
        opcode = _OPCODES["identity", None, 0, source[0], target[0]]
        row = [opcode, target[1], source[1], 0, 0, 0, Kind.TENSOR, int(target[0] == "S")]
        self.code.append(row)


def _evaluate(op: Op, args: tuple[int | float, ...]) -> float:
    """A constant expression's value in float32, where subnormals count as zero."""
    numbers = [np.float32(arg) if abs(arg) >= _TINY else np.float32(0) for arg in args]
    with np.errstate(all="ignore"):
        if op.reduction:
            value = float(op.meaning(np, op.reduction.inputs(np, *numbers), *numbers))
        else:
            value = float(op.meaning(np, *numbers))
    return 0.0 if abs(value) < _TINY else value
