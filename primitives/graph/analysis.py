"""Abstract execution: what is known about a program without running it.

One cheap pass decides the kind of every value, and which statements can ever reach an update
(across steps: a state that no future update reads is dead). The semantic key is in `keys`.

A search does this for every program it generates, so the loops below look names up once and make
no call for a statement that is fine: 20 statements take about 20 microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from primitives.graph.keys import semantic_hash
from primitives.kinds import JOIN, Kind, fits, kind_shape
from primitives.ops import OPS
from primitives.program import Program, ProgramError, Statement

Operands = tuple[int | float, ...]
"""The operands of a statement: an `int` is a value's number, a `float` a constant."""
_REFERENCE_MODEL = ((1024, 1024), (1024,)) * 2
"""The shapes of the weights that `state_memory` counts states for."""


class StatementError(ProgramError):
    """An ill-kinded statement; `index` is its place, the number of statements for the return.

    The line is that of `str(program)`.
    """

    def __init__(self, index: int, reason: str):
        self.index = index
        super().__init__(reason, index + 2)


@dataclass(frozen=True)
class Analysis:
    """A program in single-assignment form: values 0..P-1 are the parameters, P+i statement i.

    Attributes:
        program: what was analysed.
        operands: for each statement its operands, a value's number (int) or a constant (float).
        kinds: the kind of each value.
        outputs: the values returned, the update first, then the states' next values.
        live_states: the parameters (by number) that are states some future update reads, in the
            order returned.
        live_statements: the statements (by index, ascending) that some update depends on.
        next_value: for each state, by its parameter's number, the value it has in the next step.
    """

    program: Program
    operands: tuple[Operands, ...]
    kinds: tuple[Kind, ...]
    outputs: tuple[int, ...]
    live_states: tuple[int, ...]
    live_statements: tuple[int, ...]
    next_value: dict[int, int]

    @cached_property
    def key(self) -> str:
        """The semantic key, 16 hexadecimal digits; see `keys.semantic_hash`."""
        hashed = semantic_hash(
            self.program,
            self.operands,
            self.outputs[0],
            {state: self.next_value[state] for state in self.live_states},
            self.live_statements,
        )
        return f"{hashed:016x}"


def analyse(program: Program) -> Analysis:
    """Kinds, liveness and single-assignment form of `program`.

    Raises:
        StatementError: an ill-kinded statement, an unknown op, an undefined name or a state that
            is returned as more than it is declared.
    """
    states = program.returns[1:]
    position: dict[str, int] = {}
    kinds: list[Kind] = []
    for number, (name, kind, _) in enumerate(program.parameters):
        position[name] = number
        kinds.append(kind if number < 2 or name in states else Kind.SCALAR)
    environment = position.copy()
    depends = [1 << number for number in range(len(kinds))]  # on which values, as bits
    operands: list[Operands] = []
    for index, statement in enumerate(program.statements):
        target, op_name, args = statement
        op = OPS.get(op_name)
        if op is None or len(args) != op.arity:
            _refuse_op(index, statement)
        common = Kind.SCALAR
        needed = 1 << len(kinds)
        resolved: list[int | float] = []
        for arg in args:
            if isinstance(arg, str):
                value = environment.get(arg)
                if value is None:
                    raise StatementError(index, f"{arg!r} has no value here; assign it first")
                resolved.append(value)
                common = JOIN[common][kinds[value]]
                needed |= depends[value]
            else:
                resolved.append(float(arg))
        for place in op.scalar_operands:
            operand = resolved[place]
            if type(operand) is int and kinds[operand]:
                _refuse_operand(index, statement, place, kinds[operand])
        environment[target] = len(kinds)
        kinds.append(op.results[common])
        depends.append(needed)
        operands.append(tuple(resolved))
    outputs = _outputs(program, environment, kinds)
    next_value = {position[s]: value for s, value in zip(states, outputs[1:], strict=True)}
    live = _live(outputs[0], next_value, depends)
    count = len(program.parameters)
    return Analysis(
        program,
        tuple(operands),
        tuple(kinds),
        outputs,
        tuple([state for state in next_value if live >> state & 1]),
        tuple([index for index in range(len(operands)) if live >> (count + index) & 1]),
        next_value,
    )


def _live(update: int, next_value: dict[int, int], depends: list[int]) -> int:
    """The values, as bits, that some update depends on.

    Reading a state reaches back into the step before, to the value that was returned for it.
    """
    live = depends[update]
    before = 0
    while live != before:
        before = live
        for state, value in next_value.items():
            if live >> state & 1:
                live |= depends[value]
    return live


def _refuse_op(index: int, statement: Statement) -> NoReturn:
    target, name, args = statement
    if name not in OPS:
        raise StatementError(index, f"unknown op {name!r} gives {target!r}; `OPS` lists them")
    arity = OPS[name].arity
    raise StatementError(index, f"{name!r} takes {arity} operands, not {len(args)}")


def _refuse_operand(index: int, statement: Statement, place: int, kind: Kind) -> NoReturn:
    raise StatementError(
        index,
        f"`{statement}`: operand {place + 1} of {statement.op!r} must be a scalar, and "
        f"{statement.args[place]!r} is a {kind}; pass a number, lr or a global_norm",
    )


def _outputs(program: Program, environment: dict[str, int], kinds: list[Kind]) -> tuple[int, ...]:
    end = len(program.statements)
    for name in program.returns:
        if name not in environment:
            raise StatementError(end, f"{name!r} has no value here; assign it first")
    states = program.returns[1:]
    for name, declared, _ in program.parameters:
        if name not in states:
            continue
        kind = kinds[environment[name]]
        if kind != declared and not fits(kind, declared):
            raise StatementError(
                end,
                f"state {name!r} is declared as a {declared} and returned as a {kind}; "
                f"declare it as `{name}: {kind}`",
            )
    return tuple([environment[name] for name in program.returns])


def check(program: Program) -> dict[str, Kind]:
    """The kind of every variable of `program`, that of its last assignment where it has several.

    Raises:
        ProgramError: an ill-kinded statement; the line is that of `str(program)`.
    """
    names = [p.name for p in program.parameters] + [s.target for s in program.statements]
    return dict(zip(names, analyse(program).kinds, strict=True))


def semantic_key(program: Program) -> str:
    """A key, 16 hexadecimal digits, equal for programs that compute the same update.

    It does not depend on names, dead statements and states, the order of independent statements,
    of commutative operands and of states, nor on states that are kept twice.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    return analyse(program).key


def live(program: Program) -> Program:
    """`program` without the statements and states that no update depends on.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    analysis = analyse(program)
    dead_states = set(program.returns[1:]) - {
        program.parameters[number].name for number in analysis.live_states
    }
    return Program(
        tuple(p for p in program.parameters if p.name not in dead_states),
        tuple(program.statements[index] for index in analysis.live_statements),
        (program.update, *(name for name in program.returns[1:] if name not in dead_states)),
    )


def state_memory(program: Program) -> float:
    """Numbers of live state kept per weight, on two 1024 x 1024 matrices with their biases.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    kept = 0
    for number in analyse(program).live_states:
        kind = program.parameters[number].kind
        kept += 1 if kind == Kind.SCALAR else sum(_size(kind, s) for s in _REFERENCE_MODEL)
    return kept / sum(math.prod(shape) for shape in _REFERENCE_MODEL)


def _size(kind: Kind, shape: tuple[int, ...]) -> int:
    return math.prod(kind_shape(kind, shape))
