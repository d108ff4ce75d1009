"""Abstract execution: what is known about a program without running it.

One cheap pass decides the kind of every value, which statements can ever reach an update (across
steps: a state that no future update reads is dead), and the semantic key, which is equal for
programs that compute the same update whatever their names, dead statements, order of independent
statements, order of commutative operands, and order or duplication of states.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache

from primitives.kinds import Kind, fits
from primitives.ops import OPS
from primitives.program import Program, ProgramError, Statement

_MASK = (1 << 64) - 1


class StatementError(ValueError):
    """An ill-kinded statement: its index (the number of statements for the return) and why."""

    def __init__(self, index: int, reason: str):
        self.index = index
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Analysis:
    """A program in single-assignment form: values 0..P-1 are the parameters, P+i statement i.

    Attributes:
        program: what was analysed.
        operands: for each statement its operands, a value's number or a constant.
        kinds: the kind of each value.
        outputs: the values returned, the update first, then the states' next values.
        live_states: the parameters (by number) that are states some future update reads.
        live_statements: the statements (by index, ascending) that some update depends on.
    """

    program: Program
    operands: tuple[tuple[int | float, ...], ...]
    kinds: tuple[Kind, ...]
    outputs: tuple[int, ...]
    live_states: tuple[int, ...]
    live_statements: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        """The semantic key, 16 hexadecimal digits."""
        return f"{_key(self):016x}"

    def state_values(self) -> dict[int, int]:
        """For each state, by its parameter's number, the value it takes over to the next step."""
        position = {p.name: i for i, p in enumerate(self.program.parameters)}
        states = self.program.returns[1:]
        return {position[s]: v for s, v in zip(states, self.outputs[1:], strict=True)}


def analyse(program: Program) -> Analysis:
    """Kinds, liveness and single-assignment form of `program`.

    Raises:
        StatementError: an ill-kinded statement, an undefined name or an oversized state.
    """
    states = set(program.returns[1:])
    environment: dict[str, int] = {}
    kinds: list[Kind] = []
    for number, parameter in enumerate(program.parameters):
        environment[parameter.name] = number
        is_input = number >= 2 and parameter.name not in states
        kinds.append(Kind.SCALAR if is_input else parameter.kind)
    operands: list[tuple[int | float, ...]] = []
    for index, statement in enumerate(program.statements):
        resolved, kind = _resolve(index, statement, environment, kinds)
        environment[statement.target] = len(kinds)
        operands.append(resolved)
        kinds.append(kind)
    outputs = _outputs(program, environment, kinds)
    live_states, live_statements = _live(program, operands, outputs)
    return Analysis(
        program, tuple(operands), tuple(kinds), outputs, tuple(live_states), tuple(live_statements)
    )


def _resolve(
    index: int, statement: Statement, environment: dict[str, int], kinds: list[Kind]
) -> tuple[tuple[int | float, ...], Kind]:
    op = OPS[statement.op]
    resolved: list[int | float] = []
    operand_kinds: list[Kind] = []
    for arg in statement.args:
        if isinstance(arg, str):
            value = environment.get(arg)
            if value is None:
                raise StatementError(index, f"{arg!r} has no value here; assign it first")
            resolved.append(value)
            operand_kinds.append(kinds[value])
        else:
            resolved.append(arg)
            operand_kinds.append(Kind.SCALAR)
    if "s" in op.operands:
        _require_scalars(index, statement, operand_kinds)
    return tuple(resolved), op.result_kind(tuple(operand_kinds))


def _require_scalars(index: int, statement: Statement, kinds: list[Kind]) -> None:
    wanted = OPS[statement.op].operands
    for place, (want, kind, arg) in enumerate(zip(wanted, kinds, statement.args, strict=True), 1):
        if want == "s" and kind != Kind.SCALAR:
            raise StatementError(
                index,
                f"`{statement}`: operand {place} of {statement.op!r} must be a scalar, and "
                f"{arg!r} is a {kind}; pass a number, lr, or a global_norm",
            )


def _outputs(program: Program, environment: dict[str, int], kinds: list[Kind]) -> tuple[int, ...]:
    end = len(program.statements)
    if program.update not in environment:
        raise StatementError(end, f"{program.update!r} has no value here; assign it first")
    for state in program.states:
        kind = kinds[environment[state.name]]
        if not fits(kind, state.kind):
            raise StatementError(
                end,
                f"state {state.name!r} is declared as a {state.kind} and returned as a {kind}; "
                f"declare it as `{state.name}: {kind}`",
            )
    return tuple(environment[name] for name in program.returns)


def _live(
    program: Program, operands: list[tuple[int | float, ...]], outputs: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Live states and statements: what a search backwards from the update reaches.

    Reading a state reaches back into the step before, to the value that was returned for it.
    """
    count = len(program.parameters)
    position = {parameter.name: i for i, parameter in enumerate(program.parameters)}
    next_value = {position[s]: v for s, v in zip(program.returns[1:], outputs[1:], strict=True)}
    seen = bytearray(count + len(operands))
    pending = [outputs[0]]
    while pending:
        value = pending.pop()
        if seen[value]:
            continue
        seen[value] = 1
        if value >= count:
            pending.extend(arg for arg in operands[value - count] if type(arg) is int)
        elif value in next_value:
            pending.append(next_value[value])
    live_states = [number for number in next_value if seen[number]]
    return live_states, [i for i in range(len(operands)) if seen[count + i]]


def _mix(h: int, x: int) -> int:
    """One round of a 64-bit hash; written out because keys outlive a process (unlike `hash`)."""
    h = ((h ^ x) * 0x9E3779B97F4A7C15) & _MASK
    return h ^ (h >> 29)


@lru_cache(maxsize=65536)
def _constant_hash(value: float) -> int:
    """A constant's hash: that of its float32 value, which programs compute with; -0.0 is 0.0."""
    return _mix(0xC0457, int.from_bytes(struct.pack("<f", value + 0.0), "little") + 1)


_LEAF_HASH = {name: _mix(0x1EAF, i) for i, name in enumerate(("weight", "gradient", "lr", "t"), 1)}


def _key(analysis: Analysis) -> int:
    """Hash of the update as a function of weights, gradients and schedule over time.

    States start with a hash of kind and initial value and are refined, like the states of an
    automaton, by the hash of what they turn into: after r rounds two states agree only if they
    behave alike for r steps, and k states that agree for 2k - 1 rounds agree for ever.
    """
    program = analysis.program
    next_value = analysis.state_values()
    first = {}
    for number in analysis.live_states:
        _, kind, initial = program.parameters[number]
        first[number] = _mix(_mix(0x57A7E, kind), _constant_hash(initial))
    colours = first
    rounds = 2 * len(first) - 1
    for _ in range(rounds):
        hashes = _value_hashes(analysis, colours)
        colours = {number: _mix(first[number], hashes[next_value[number]]) for number in first}
    distinct = len(set(colours.values()))
    if distinct < len(colours):  # duplicated states: the same number of rounds as without them
        return _key(_without_duplicates(analysis, colours))
    return _mix(_value_hashes(analysis, colours)[analysis.outputs[0]], rounds)


def _value_hashes(analysis: Analysis, colours: dict[int, int]) -> list[int]:
    program = analysis.program
    count = len(program.parameters)
    hashes = [0] * (count + len(program.statements))
    hashes[0], hashes[1] = _LEAF_HASH["weight"], _LEAF_HASH["gradient"]
    for number in range(2, count):
        hashes[number] = colours.get(number) or _LEAF_HASH.get(program.parameters[number].name, 0)
    for index in analysis.live_statements:
        op = OPS[program.statements[index].op]
        args = [
            hashes[arg] if type(arg) is int else _constant_hash(arg)
            for arg in analysis.operands[index]
        ]
        if op.name == "identity":
            hashes[count + index] = args[0]
            continue
        if op.commutative and args[0] > args[1]:
            args.reverse()
        h = op.tag
        for arg in args:
            h = _mix(h, arg)
        hashes[count + index] = h
    return hashes


def _without_duplicates(analysis: Analysis, colours: dict[int, int]) -> Analysis:
    """`analysis` with every live state replaced by the first that behaves like it."""
    representative: dict[int, int] = {}
    replaced = {n: representative.setdefault(c, n) for n, c in colours.items()}
    operands = tuple(
        tuple(replaced.get(arg, arg) if type(arg) is int else arg for arg in args)
        for args in analysis.operands
    )
    outputs = tuple(replaced.get(value, value) for value in analysis.outputs)
    live_states, live_statements = _live(analysis.program, list(operands), outputs)
    return Analysis(
        analysis.program,
        operands,
        analysis.kinds,
        outputs,
        tuple(live_states),
        tuple(live_statements),
    )


def check(program: Program) -> dict[str, Kind]:
    """The kind of every variable of `program`, that of its last assignment where it has several.

    Raises:
        ProgramError: an ill-kinded statement; the line is that of `str(program)`.
    """
    try:
        analysis = analyse(program)
    except StatementError as error:
        raise ProgramError(error.reason, error.index + 2) from None
    names = [p.name for p in program.parameters] + [s.target for s in program.statements]
    return dict(zip(names, analysis.kinds, strict=True))


def semantic_key(program: Program) -> str:
    """A key, 16 hexadecimal digits, equal for programs that compute the same update.

    Raises:
        StatementError: the program is ill-kinded.
    """
    return analyse(program).key


def live(program: Program) -> Program:
    """`program` without the statements and states that no update depends on.

    Raises:
        StatementError: the program is ill-kinded.
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
