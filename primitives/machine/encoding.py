"""Translates programs to instructions of the interpreter.

`primitives.machine.instructions` describes the instructions.
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
_COLUMN_COUNT = 8
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LAST_INPUT = {"T": 1, "S": 1}
"""Last register that an input occupies: T1 has the gradient, S1 the number of the step."""
_SCHEDULE_INPUTS = {"lr": 0, "t": 1}
"""Scalar registers of the schedule inputs."""


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
    end with a multiplication by the learning rate, which becomes the scale. So this multiplication
    needs no instruction of its own.

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
    """A call of an op, which becomes an instruction.

    Attributes:
        op: the op.
        args: the operands, each a constant (float) or the number of a value (int).
        inner: the inner op of a fused instruction; None for other instructions.
        position: the index of the operand of `op` that `inner` computes.
    """

    op: Op
    args: tuple[int | float, ...]
    inner: Op | None = None
    position: int = 0


class _Encoder:
    """Translates one program.

    Values have numbers: first the parameters, then the results of the statements.

    Attributes:
        calls: the calls to encode, by the number of the value that they compute.
        resolved: the constant or other value that a value equals, if the value needs no call.
        update: the update, a value or a constant.
        scale: the scalar value or constant that multiplies the update.
        next_value: the next value of each live state, by the number of the state's parameter.
        output_values: the values that are read after the last instruction.
        constants: the scalar register of each constant.
        free: free registers of each class; the last is used next.
        last_read: for each value, the index of the last call that reads the value.
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
            "T": list(range(TENSOR_REGISTERS - 1, _LAST_INPUT["T"], -1)),
            "S": list(range(SCALAR_REGISTERS - 1, _LAST_INPUT["S"], -1)),
        }
        self.last_read: dict[int, int] = {}
        self.registers: dict[int, Register] = {}
        self.rows: list[list[int]] = []

    def _resolve(self, value: int | float) -> int | float:
        """Return the constant or value that `value` equals if it needs no call, else `value`."""
        return self.resolved.get(value, value) if type(value) is int else value

    def _calls(self) -> dict[int, _Call]:
        """Return the calls of the live statements.

        Copies and constant expressions need no call: the constants or values that they equal are
        added to `resolved`.
        """
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
                constant = _evaluate(op, args)
                if math.isfinite(constant):
                    self.resolved[value] = constant
                else:  # initial values of registers must be finite
                    calls[value] = _Call(op, args)
        return calls

    def _readers(self) -> dict[int, list[int]]:
        """Return, for each value, the values whose calls read it."""
        readers: dict[int, list[int]] = defaultdict(list)
        for value, call in self.calls.items():
            for arg in call.args:
                if type(arg) is int:
                    readers[arg].append(value)
        return readers

    def _split_scale(self) -> None:
        """If the update is a tensor times a scalar, make the scalar the scale of the update."""
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
        """Merge pairs of calls that one fused instruction can compute."""
        readers = self._readers()
        for outer, position, inner in FUSED_PAIRS:
            for call in list(self.calls.values()):
                if call.op.name != outer or call.inner:
                    continue
                if call.op.commutative and not self._is_pair(call.args[position], inner):
                    call.args = call.args[::-1]
                arg = call.args[position]
                if not self._is_pair(arg, inner):
                    continue
                if arg in self.output_values or len(readers[arg]) > 1:
                    continue
                inner_call = self.calls.pop(arg)
                call.inner, call.position = inner_call.op, position
                outer_args = call.args
                call.args = (*outer_args[:position], *inner_call.args, *outer_args[position + 1 :])

    def _is_pair(self, arg: int | float, inner: str) -> TypeGuard[int]:
        """Return whether `arg` is a tensor that an unfused call of the op `inner` computes."""
        if type(arg) is not int or arg not in self.calls:
            return False
        call = self.calls[arg]
        return call.op.name == inner and call.inner is None and self._register_class(arg) == "T"

    def _register_class(self, arg: int | float) -> str:
        """Return "T" for a value of tensor registers, "S" for a scalar value or a constant."""
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
        instructions = np.zeros((MAX_INSTRUCTIONS, _COLUMN_COUNT), np.int32)
        instructions[: len(self.rows)] = np.reshape(self.rows, (-1, _COLUMN_COUNT))
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
                self.registers[number] = ("S", _SCHEDULE_INPUTS[parameter.name])

    def _allocate_constants(self) -> None:
        """Give each constant a register that no other value uses."""
        args = [arg for call in self.calls.values() for arg in call.args]
        for arg in [*args, self.update, self.scale, *self.next_value.values()]:
            if type(arg) is float and arg not in self.constants:
                self.constants[arg] = self._allocate("S")
                self.initial_scalars[self.constants[arg]] = arg

    def _allocate(self, register_class: str) -> int:
        """Return the index of a free register, which is then no longer free."""
        if not self.free[register_class]:
            limit = TENSOR_REGISTERS if register_class == "T" else SCALAR_REGISTERS
            kind = "tensor" if register_class == "T" else "scalar"
            raise CapacityError(f"the program keeps more than {limit} {kind} values at a time")
        return self.free[register_class].pop()

    def _order(self) -> list[int]:
        """Return the values in the order of computation, scalars as early as possible.

        This order makes long blocks of scalar instructions between the tensor instructions.
        """
        pending = list(self.calls)
        computed: set[int] = set(range(self.parameter_count))
        order: list[int] = []
        while pending:
            ready = [value for value in pending if self._is_ready(value, computed)]
            scalars = [value for value in ready if self._register_class(value) == "S"]
            next_values = scalars or ready[:1]
            order += next_values
            computed |= set(next_values)
            pending = [value for value in pending if value not in computed]
        return order

    def _is_ready(self, value: int, computed: set[int]) -> bool:
        """Return whether all operands of a value have been computed."""
        return all(type(arg) is float or arg in computed for arg in self.calls[value].args)

    def _last_reads(self, order: list[int]) -> dict[int, int]:
        """Return `last_read` for an order of computation."""
        last_read: dict[int, int] = {}
        for index, value in enumerate(order):
            for arg in self.calls[value].args:
                if type(arg) is int:
                    last_read[arg] = index
        for value in self.output_values:
            last_read[value] = len(order)
        return last_read

    def _emit_call(self, value: int, index: int) -> None:
        """Encode the call that computes `value`, the call with the given index in the order."""
        call = self.calls[value]
        operands = [self._operand(arg) for arg in call.args]
        for arg in {arg for arg in call.args if type(arg) is int and arg >= self.parameter_count}:
            if self.last_read[arg] == index:
                register_class, register = self.registers[arg]
                self.free[register_class].append(register)
        register_class = self._register_class(value)
        output_register = self._output_register(value, register_class, index)
        self.registers[value] = register_class, output_register
        self._emit(call, operands, self.registers[value])

    def _operand(self, arg: int | float) -> Register:
        """Return the register of a value or constant."""
        return self.registers[arg] if type(arg) is int else ("S", self.constants[arg])

    def _output_register(self, value: int, register_class: str, index: int) -> int:
        """Return the index of a register for a new value.

        If the value is the next value of a state, and no later call reads the state's old value,
        the register of the state is returned.
        """
        for state, next_value in self.next_value.items():
            state_class, state_register = self.registers[state]
            is_next_value = type(next_value) is int and next_value == value
            old_value_is_read_later = self.last_read.get(state, -1) > index
            if is_next_value and state_class == register_class and not old_value_is_read_later:
                return state_register
        return self._allocate(register_class)

    def _emit(self, call: _Call, operands: list[Register], out: Register) -> None:
        """Encode a call with the given registers of operands and result."""
        if call.op.commutative and call.inner is None and operands[0][0] < operands[1][0]:
            operands.reverse()
        layout = "".join(register_class for register_class, _ in operands)
        instruction = Instruction(call.op, layout, out[0], call.inner, call.position)
        if call.inner and signature(instruction) not in self.opcodes:
            operands, layout = self._swapped_inner(call, operands)
            instruction = replace(instruction, layout=layout)
        kind = common(self.kinds[arg] for arg in call.args if type(arg) is int)
        if signature(instruction) not in self.opcodes:
            raise CapacityError(
                f"the machine has no instruction for {call.op.name!r} with operands {layout} "
                "(T: tensor, S: scalar)"
            )
        if call.op.matrixwise and kind <= Kind.MATRIX:
            kind = Kind.MATRIX  # one number in each matrix; see `step.undo_repetition`
        section, opcode = self.opcodes[signature(instruction)]
        row = [opcode, out[1], *(register for _, register in operands)]
        row += [0] * (KIND - len(row)) + [kind, section]
        self.rows.append(row)

    def _swapped_inner(self, call: _Call, operands: list[Register]) -> tuple[list[Register], str]:
        """Return operands and layout with the two operands of the inner op exchanged."""
        before, after = operands[: call.position], operands[call.position + 2 :]
        first, second = operands[call.position : call.position + 2]
        swapped = [*before, second, first, *after]
        return swapped, "".join(register_class for register_class, _ in swapped)

    def _write_outputs(self) -> tuple[int, int]:
        """Move next values to the states' registers; return the registers of update and scale.

        If a next value is another state's old value, a move may overwrite this old value before the
        old value is read. So such values are first saved to free registers.
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
    """Return the value of a constant expression in float32; subnormal numbers become zero."""
    numbers = [np.float32(arg) if abs(arg) >= _SMALLEST_NORMAL else np.float32(0) for arg in args]
    with np.errstate(all="ignore"):
        value = float(op.of_numbers(np, *numbers))
    return 0.0 if abs(value) < _SMALLEST_NORMAL else value
