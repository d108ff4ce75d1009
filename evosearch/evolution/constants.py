"""The constants of a program, and the program without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from primitives import Program, Statement

Place = tuple[int, int]
"""A statement and an operand."""

_LARGEST = 1e38
"""Float32 holds little more."""


def rounded(value: float) -> float:
    """Six digits: as many as float32 holds with certainty, and no more for a reader to skip."""
    return float(f"{min(max(value, -_LARGEST), _LARGEST):.6g}")


def constants(program: Program) -> dict[Place, float]:
    """Every constant operand, by its place."""
    return {
        (index, operand): arg
        for index, statement in enumerate(program.statements)
        for operand, arg in enumerate(statement.args)
        if not isinstance(arg, str)
    }


def with_constants(program: Program, values: Mapping[Place, float]) -> Program:
    """`program` with other constants at some places."""
    statements = []
    for index, statement in enumerate(program.statements):
        args = tuple(values.get((index, n), arg) for n, arg in enumerate(statement.args))
        statements.append(Statement(statement.target, statement.op, args))
    return replace(program, statements=tuple(statements))


def shape(program: Program) -> tuple[object, ...]:
    """The statements but for their constants."""
    return tuple(map(without_constants, program.statements))


def without_constants(statement: Statement) -> tuple[object, ...]:
    """A statement with nothing in the place of its constants."""
    target, op, args = statement
    return (target, op, *(None if isinstance(arg, float) else arg for arg in args))
