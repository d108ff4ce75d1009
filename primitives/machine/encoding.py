"""The encoder, which translates programs to instructions of the compile-once machine.

`primitives.machine.instructions` describes the machine.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypeGuard

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

Register: TypeAlias = tuple[str, int]
"""Register class ("T" for tensors, "S" for scalars) and index."""
Array = Any  # a NumPy array as returned by `encode`, a JAX array inside the machine

TENSOR_REGISTERS = 24
SCALAR_REGISTERS = 96
MAX_INSTRUCTIONS = MAX_STATEMENTS + 16
OPCODE, OUT, FIRST, KIND, SECTION = 0, 1, 2, 6, 7
"""Columns of an encoded instruction. Columns FIRST to FIRST + 3 hold the operands' registers."""
_WIDTH = 8
_TINY = float(np.finfo(np.float32).tiny)
_GRADIENT = 1
_LR, _T = 0, 1
_INPUTS = {"lr": _LR, "t": _T}


class CapacityError(ValueError):
    """The program needs more registers than the machine has, or an op that the machine lacks.

    `rule` can still compile the program by itself.

    Example:
        >>> from primitives import zoo
        >>> encode(zoo.load("momentum"), frozenset({"add"}))
        Traceback (most recent call last):
        primitives.machine.encoding.CapacityError: ...
    """


class Code(NamedTuple):
    """An encoded program: arrays of fixed shapes, so that one compiled machine runs any program.

    The program's update is tensor register `update` times scalar register `scale`. Most programs
    end with a multiplication by the learning rate. As the scale, it needs no pass over memory.

    Attributes:
        instructions: [MAX_INSTRUCTIONS, 8] int32, a row for each instruction.
        length: () int32, the number of instructions.
        initial_tensors: [TENSOR_REGISTERS] float32, the initial value of all elements of each
            tensor register.
        initial_scalars: [SCALAR_REGISTERS] float32, the initial value of each scalar register.
        update: () int32, the tensor register of the update.
        scale: () int32, the scalar register of the factor of the update.
    """

    instructions: Array
    length: Array
    initial_tensors: Array
    initial_scalars: Array
    update: Array
    scale: Array


def encode(program: Program, ops: OpNames = ALL_OPS) -> Code:
    """Encode the live statements of `program` for the machine with the given ops.

    Args:
        program: the program.
        ops: names of the ops of the machine; all by default.

    Raises:
        CapacityError: the program needs more registers than the machine has, or an op that is not
            among `ops`.
        StatementError: the kinds of a statement's operands do not fit.

    Example:
        >>> from primitives import zoo
        >>> code = encode(zoo.load("adamw"))
        >>> code.instructions.shape == encode(zoo.load("sgd")).instructions.shape
        True
    """
    return _Encoder(analyse(program), ops).encode()


@dataclass
class _Call:
    """An op that is to be computed.

    Attributes:
        op: the op.
        args: the operands, each a constant (float) or the number of a value (int).
        inner: the inner op of a fused instruction.
        position: the operand of `op` that `inner` computes.
    """

    op: Op
    args: tuple[int | float, ...]
    inner: Op | None = None
    position: int = 0


class _Encoder:
    """Translates one program.

    Values have numbers: first the parameters, then the results of the statements.

    Attributes:
        calls: the ops to compute, by the number of their value.
        resolved: for each value without a call, the constant or value that it equals.
        update: the update, a value or a constant.
        scale: the scalar value or constant that multiplies the update.
        next_value: the next value of each live state, by the number of the state's parameter.
        output_values: the values that are needed after the step.
        constants: the scalar register of each constant.
        free: free registers of each class, taken from the end.
        last_read: the last index in the order of calls at which a value is read.
        registers: the register of each value.
        rows: the encoded instructions so far.
    """

    def __init__(self, analysis: Analysis, ops: OpNames):
        self.analysis = analysis
        self.opcodes = instruction_set(ops).opcodes
        self.parameters = analysis.program.parameters
        self.parameter_count = len(self.parameters)
        self.kinds = analysis.kinds
        self.resolved: dict[int, int | float] = {}
        self.calls = self._calls()
        self.update = self._resolve(analysis.outputs[0])
        self.next_value = {
            state: self._resolve(analysis.next_value[state]) for state in analysis.live_states
        }
        self.scale: int | float = 1.0
        self._split_scale()
        outputs = (self.update, self.scale, *self.next_value.values())
        self.output_values = {value for value in outputs if type(value) is int}
        self._fuse_pairs()
        self.constants: dict[float, int] = {}
        self.initial_tensors = np.zeros(TENSOR_REGISTERS, np.float32)
        self.initial_scalars = np.zeros(SCALAR_REGISTERS, np.float32)
        self.free = {
            "T": list(range(TENSOR_REGISTERS - 1, _GRADIENT, -1)),
            "S": list(range(SCALAR_REGISTERS - 1, _T, -1)),
        }
        self.last_read: dict[int, int] = {}
        self.registers: dict[int, Register] = {}
        self.rows: list[list[int]] = []

    def _resolve(self, value: int | float) -> int | float:
        return self.resolved.get(value, value) if type(value) is int else value

    def _calls(self) -> dict[int, _Call]:
        """Return the calls of the live statements; fold constant expressions and resolve copies."""
        program = self.analysis.program
        calls: dict[int, _Call] = {}
        for index in self.analysis.live_statements:
            op = OPS[program.statements[index].op]
            op = OPS[op.same_as] if op.same_as else op
            args = tuple([self._resolve(arg) for arg in self.analysis.operands[index]])
            value = self.parameter_count + index
            if op.name == "identity":
                self.resolved[value] = args[0]
            elif int in map(type, args):
                calls[value] = _Call(op, args)
            else:
                folded = _evaluate(op, args)
                if math.isfinite(folded):
                    self.resolved[value] = folded
                else:  # computed at each step, since registers may not start as infinite or NaN
                    calls[value] = _Call(op, args)
        return calls

    def _readers(self) -> dict[int, list[int]]:
        readers: dict[int, list[int]] = defaultdict(list)
        for value, call in self.calls.items():
            for arg in call.args:
                if type(arg) is int:
                    readers[arg].append(value)
        return readers

    def _split_scale(self) -> None:
        """Make a last multiplication of a tensor by a scalar the scale of the update."""
        update = self.update
        if type(update) is not int or update not in self.calls:
            return
        call = self.calls[update]
        is_read = self._readers()[update] or update in self.next_value.values()
        if call.op.name != "multiply" or is_read:
            return
        for tensor, scalar in (call.args, call.args[::-1]):
            if self._register_class(tensor) == "T" and self._register_class(scalar) == "S":
                del self.calls[update]
                self.update, self.scale = tensor, scalar
                return

    def _fuse_pairs(self) -> None:
        """Merge each value into its only user where a fused instruction computes both."""
        readers = self._readers()
        for outer, position, inner in FUSED_PAIRS:
            for call in list(self.calls.values()):
                if call.op.name != outer or call.inner:
                    continue
                if call.op.commutative and not self._is_pair(call.args[position], inner):
                    call.args = call.args[::-1]
                arg = call.args[position]
                if (
                    not self._is_pair(arg, inner)
                    or arg in self.output_values
                    or len(readers[arg]) > 1
                ):
                    continue
                merged = self.calls.pop(arg)
                call.inner, call.position = merged.op, position
                call.args = (
                    *call.args[:position],
                    *merged.args,
                    *call.args[position + 1 :],
                )

    def _is_pair(self, arg: int | float, inner: str) -> TypeGuard[int]:
        """Whether `arg` is a value in a tensor register that a call of `inner` alone computes."""
        if type(arg) is not int or arg not in self.calls:
            return False
        call = self.calls[arg]
        return call.op.name == inner and call.inner is None and self._register_class(arg) == "T"

    def _register_class(self, arg: int | float) -> str:
        return "T" if type(arg) is int and self.kinds[arg] else "S"

    def encode(self) -> Code:
        self._allocate_parameters()
        self._allocate_constants()
        order = self._order()
        self.last_read = self._last_reads(order)
        for index, value in enumerate(order):
            self._emit_call(value, index)
        update, scale = self._write_outputs()
        if len(self.rows) > MAX_INSTRUCTIONS:
            raise CapacityError(
                f"the program takes {len(self.rows)} instructions; the machine runs at most "
                f"{MAX_INSTRUCTIONS}"
            )
        instructions = np.zeros((MAX_INSTRUCTIONS, _WIDTH), np.int32)
        instructions[: len(self.rows)] = np.reshape(self.rows, (-1, _WIDTH))
        return Code(
            instructions,
            np.asarray(len(self.rows), np.int32),
            self.initial_tensors,
            self.initial_scalars,
            np.asarray(update, np.int32),
            np.asarray(scale, np.int32),
        )

    def _allocate_parameters(self) -> None:
        for number, parameter in enumerate(self.parameters):
            if number < 2:
                self.registers[number] = ("T", number)
            elif number in self.next_value:
                register_class = "S" if parameter.kind == Kind.SCALAR else "T"
                self.registers[number] = (register_class, self._allocate(register_class))
                initial = self.initial_scalars if register_class == "S" else self.initial_tensors
                initial[self.registers[number][1]] = parameter.initial
            elif number not in self.analysis.next_value:
                self.registers[number] = ("S", _INPUTS[parameter.name])

    def _allocate_constants(self) -> None:
        """Give each constant a register that no other value uses."""
        used = [arg for call in self.calls.values() for arg in call.args]
        for arg in [*used, self.update, self.scale, *self.next_value.values()]:
            if type(arg) is float and arg not in self.constants:
                self.constants[arg] = self._allocate("S")
                self.initial_scalars[self.constants[arg]] = arg

    def _allocate(self, register_class: str) -> int:
        if not self.free[register_class]:
            limit = TENSOR_REGISTERS if register_class == "T" else SCALAR_REGISTERS
            kind = "tensor" if register_class == "T" else "scalar"
            raise CapacityError(f"the program keeps more than {limit} {kind} values at a time")
        return self.free[register_class].pop()

    def _order(self) -> list[int]:
        """Return the values in the order of computation, scalars as early as possible.

        Scalar and tensor instructions then alternate in blocks.
        """
        pending = list(self.calls)
        done: set[int] = set(range(self.parameter_count))
        order: list[int] = []
        while pending:
            ready = [value for value in pending if self._is_ready(value, done)]
            scalars = [value for value in ready if self._register_class(value) == "S"]
            chosen = scalars or ready[:1]
            order += chosen
            done |= set(chosen)
            pending = [value for value in pending if value not in done]
        return order

    def _is_ready(self, value: int, done: set[int]) -> bool:
        return all(type(arg) is float or arg in done for arg in self.calls[value].args)

    def _last_reads(self, order: list[int]) -> dict[int, int]:
        last: dict[int, int] = {}
        for index, value in enumerate(order):
            for arg in self.calls[value].args:
                if type(arg) is int:
                    last[arg] = index
        for value in self.output_values:
            last[value] = len(order)
        return last

    def _emit_call(self, value: int, index: int) -> None:
        call = self.calls[value]
        operands = [self._operand(arg) for arg in call.args]
        for arg in {arg for arg in call.args if type(arg) is int and arg >= self.parameter_count}:
            if self.last_read[arg] == index:
                register_class, register = self.registers[arg]
                self.free[register_class].append(register)
        register_class = self._register_class(value)
        self.registers[value] = (
            register_class,
            self._output_register(value, register_class, index),
        )
        self._emit(call, operands, self.registers[value])

    def _operand(self, arg: int | float) -> Register:
        return self.registers[arg] if type(arg) is int else ("S", self.constants[arg])

    def _output_register(self, value: int, register_class: str, index: int) -> int:
        """Return the index of a register for a new value.

        The register is the state's register if the value is the next value of a state whose old
        value is not read later.
        """
        for state, next_value in self.next_value.items():
            if (
                type(next_value) is int
                and next_value == value
                and self.registers[state][0] == register_class
                and self.last_read.get(state, -1) <= index
            ):
                return self.registers[state][1]
        return self._allocate(register_class)

    def _emit(self, call: _Call, operands: list[Register], out: Register) -> None:
        if call.op.commutative and call.inner is None and operands[0][0] < operands[1][0]:
            operands.reverse()
        layout = "".join(register_class for register_class, _ in operands)
        instruction = Instruction(call.op, layout, out[0], call.inner, call.position)
        if call.inner and signature(instruction) not in self.opcodes:
            operands, layout = self._swapped_inner(call, operands)
            instruction = replace(instruction, layout=layout)
        kind = common(self.kinds[a] for a in call.args if type(a) is int)
        if signature(instruction) not in self.opcodes:
            raise CapacityError(
                f"the machine has no instruction for {call.op.name!r} with operands {layout} "
                "(T: tensor, S: scalar)"
            )
        if call.op.matrixwise and kind != Kind.TENSOR:
            raise CapacityError(
                f"the machine has {call.op.name!r} for tensors only, not for a {kind}"
            )
        section, opcode = self.opcodes[signature(instruction)]
        row = [opcode, out[1], *(register for _, register in operands)]
        row += [0] * (KIND - len(row)) + [kind, section]
        self.rows.append(row)

    def _swapped_inner(self, call: _Call, operands: list[Register]) -> tuple[list[Register], str]:
        """Return operands and layout with the two operands of a commutative inner op exchanged."""
        p = call.position
        swapped = [*operands[:p], operands[p + 1], operands[p], *operands[p + 2 :]]
        return swapped, "".join(register_class for register_class, _ in swapped)

    def _write_outputs(self) -> tuple[int, int]:
        """Move next values to the states' registers; return the registers of update and scale.

        If a next value is another state's old value, a move may overwrite that value before it is
        read. So such values are first saved to free registers.
        """
        moves: list[tuple[Register, Register]] = []
        for state, value in self.next_value.items():
            source, target = self._operand(value), self.registers[state]
            if source == target:
                continue
            if type(value) is int and value in self.next_value:
                source = self._save(source, source[0])
            moves.append((source, target))
        overwritten = [target for _, target in moves]
        update, scale = self._operand(self.update), self._operand(self.scale)
        if update[0] == "S" or update in overwritten:
            update = self._save(update, "T")
        if scale in overwritten:
            scale = self._save(scale, "S")
        for source, target in moves:
            self._move(source, target)
        return update[1], scale[1]

    def _save(self, source: Register, register_class: str) -> Register:
        """Copy a register to a free register and return the free register."""
        copy = (register_class, self._allocate(register_class))
        self._move(source, copy)
        return copy

    def _move(self, source: Register, target: Register) -> None:
        copy = Instruction(OPS["identity"], source[0], target[0])
        section, opcode = self.opcodes[signature(copy)]
        self.rows.append([opcode, target[1], source[1], 0, 0, 0, Kind.TENSOR, section])


def _evaluate(op: Op, args: tuple[int | float, ...]) -> float:
    """Return the value of a constant expression in float32, with subnormals as zero."""
    numbers = [np.float32(arg) if abs(arg) >= _TINY else np.float32(0) for arg in args]
    with np.errstate(all="ignore"):
        value = float(op.of_numbers(np, *numbers))
    return 0.0 if abs(value) < _TINY else value
