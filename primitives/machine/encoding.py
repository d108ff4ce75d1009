"""The encoder: programs as data, for the compile-once machine.

See `primitives.machine.instructions` for what the machine can do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from primitives.graph.analysis import Analysis, analyse
from primitives.kinds import Kind, common
from primitives.machine.instructions import (
    ALL_OPS,
    FUSED_PAIRS,
    Instruction,
    OpNames,
    instruction_set,
    signature,
)
from primitives.op import Op
from primitives.ops import OPS
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
    """The machine has too few registers for the program, or lacks an op; compile it instead.

    Example:
        >>> from primitives import zoo
        >>> encode(zoo.load("momentum"), frozenset({"add"}))
        Traceback (most recent call last):
        primitives.machine.encoding.CapacityError: ...
    """


class Code(NamedTuple):
    """An encoded program: arrays of fixed shape, so that one compiled machine runs them all.

    The step of a program is `rows[update] * scalars[scale]`: most end with a multiplication by
    the learning rate, which then costs no pass over memory of its own.
    """

    instructions: Array  # [MAX_INSTRUCTIONS, 8] int32
    length: Array  # () int32
    rows: Array  # [TENSOR_REGISTERS] float32, what the registers start with
    scalars: Array  # [SCALAR_REGISTERS] float32, likewise
    update: Array  # () int32
    scale: Array  # () int32


def encode(program: Program, ops: OpNames = ALL_OPS) -> Code:
    """`program`'s live statements as instructions of the machine for `ops`.

    Raises:
        CapacityError: it needs more registers than there are, or another op.
        StatementError: it is ill-kinded.

    Example:
        >>> from primitives import zoo
        >>> code = encode(zoo.load("adamw"))
        >>> code.instructions.shape == encode(zoo.load("sgd")).instructions.shape
        True
    """
    return _Encoder(analyse(program), ops).encode()


@dataclass
class _Node:
    """One value to compute: an op on earlier values (numbers) and constants."""

    op: Op
    args: tuple[int | float, ...]
    inner: Op | None = None
    position: int = 0


class _Encoder:
    def __init__(self, analysis: Analysis, ops: OpNames):
        self.analysis = analysis
        self.opcodes = instruction_set(ops).opcodes
        self.parameters = analysis.program.parameters
        self.count = len(self.parameters)
        self.kinds = analysis.kinds
        self.known: dict[int, int | float] = {}  # values that are constants or copies of others
        self.nodes = self._nodes()
        self.update = self._resolved(analysis.outputs[0])
        self.next_value = {
            state: self._resolved(analysis.next_value[state]) for state in analysis.live_states
        }
        self.scale: int | float = 1.0
        self._split_off_scale()
        outputs = (self.update, self.scale, *self.next_value.values())
        self.kept = {value for value in outputs if type(value) is int}  # needed after the step
        self._fuse_pairs()
        self.constants: dict[float, int] = {}
        self.row_values = np.zeros(TENSOR_REGISTERS, np.float32)
        self.scalar_values = np.zeros(SCALAR_REGISTERS, np.float32)
        self.free = {
            "T": list(range(TENSOR_REGISTERS - 1, _GRADIENT, -1)),
            "S": list(range(SCALAR_REGISTERS - 1, _T, -1)),
        }
        self.reads: dict[int, int] = {}
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

    def _readers(self) -> dict[int, list[int]]:
        readers: dict[int, list[int]] = defaultdict(list)
        for value, node in self.nodes.items():
            for arg in node.args:
                if type(arg) is int:
                    readers[arg].append(value)
        return readers

    def _split_off_scale(self) -> None:
        """Leaves a last multiplication by a number to whoever applies the update."""
        update = self.update
        if type(update) is not int or update not in self.nodes:
            return
        node = self.nodes[update]
        wanted = self._readers()[update] or update in self.next_value.values()
        if node.op.name != "multiply" or wanted:
            return
        for tensor, number in (node.args, node.args[::-1]):
            if self._class(tensor) == "T" and self._class(number) == "S":
                del self.nodes[update]
                self.update, self.scale = tensor, number
                return

    def _fuse_pairs(self) -> None:
        """Merges a value into its only reader where the pair has an instruction of its own."""
        readers = self._readers()
        for outer, position, inner in FUSED_PAIRS:
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
        update, scale = self._settle()
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
            np.asarray(scale, np.int32),
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
        for arg in [*used, self.update, self.scale, *self.next_value.values()]:
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
        one = Instruction(node.op, layout, out[0], node.inner, node.position)
        if node.inner and signature(one) not in self.opcodes:
            operands, layout = self._swapped_inner(node, operands)
            one = replace(one, layout=layout)
        kind = common(self.kinds[a] for a in node.args if type(a) is int)
        if signature(one) not in self.opcodes:
            raise CapacityError(f"the machine has no {node.op.name!r} of such operands")
        if node.op.matrixwise and kind != Kind.TENSOR:
            raise CapacityError(f"the machine has no {node.op.name!r} of a {kind}")
        section, opcode = self.opcodes[signature(one)]
        row = [opcode, out[1], *(register for _, register in operands)]
        row += [0] * (KIND - len(row)) + [kind, section]
        self.code.append(row)

    def _swapped_inner(
        self, node: _Node, operands: list[tuple[str, int]]
    ) -> tuple[list[tuple[str, int]], str]:
        """The operands with the two of a commutative inner op exchanged."""
        p = node.position
        swapped = [*operands[:p], operands[p + 1], operands[p], *operands[p + 2 :]]
        return swapped, "".join(kept for kept, _ in swapped)

    def _settle(self) -> tuple[int, int]:
        """Moves what is not yet there into the states' registers; those of update and scale.

        A state that becomes another's old value, or two that change places, read a register that a
        move may overwrite; so such values are saved before any state is written.
        """
        moves: list[tuple[tuple[str, int], tuple[str, int]]] = []
        for state, value in self.next_value.items():
            source, target = self._operand(value), self.place[state]
            if source == target:
                continue
            if type(value) is int and value in self.next_value:
                source = self._saved(source, source[0])
            moves.append((source, target))
        overwritten = [target for _, target in moves]
        update, scale = self._operand(self.update), self._operand(self.scale)
        if update[0] == "S" or update in overwritten:
            update = self._saved(update, "T")
        if scale in overwritten:
            scale = self._saved(scale, "S")
        for source, target in moves:
            self._move(source, target)
        return update[1], scale[1]

    def _saved(self, source: tuple[str, int], kept: str) -> tuple[str, int]:
        """A copy of a register in a free one."""
        copy = (kept, self._take(kept))
        self._move(source, copy)
        return copy

    def _move(self, source: tuple[str, int], target: tuple[str, int]) -> None:
        copy = Instruction(OPS["identity"], source[0], target[0])
        section, opcode = self.opcodes[signature(copy)]
        self.code.append([opcode, target[1], source[1], 0, 0, 0, Kind.TENSOR, section])


def _evaluate(op: Op, args: tuple[int | float, ...]) -> float:
    """A constant expression's value in float32, where subnormals count as zero."""
    numbers = [np.float32(arg) if abs(arg) >= _TINY else np.float32(0) for arg in args]
    with np.errstate(all="ignore"):
        value = float(op.of_numbers(np, *numbers))
    return 0.0 if abs(value) < _TINY else value
