"""Functions that read, replace and remove the constants of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from primitives import Program, Statement

Position = tuple[int, int]
"""Position of a constant: the index of the statement and the index of the operand."""

_LARGEST = 1e38
"""Largest constant, slightly below the maximum of float32."""


def rounded(value: float) -> float:
    """Round a constant to six significant digits, which a float32 preserves."""
    return float(f"{min(max(value, -_LARGEST), _LARGEST):.6g}")


def constants(program: Program) -> dict[Position, float]:
    """Return all constant operands of a program by position."""
    return {
        (index, operand): arg
        for index, statement in enumerate(program.statements)
        for operand, arg in enumerate(statement.args)
        if not isinstance(arg, str)
    }


def with_constants(program: Program, values: Mapping[Position, float]) -> Program:
    """Return `program` with the constants at the positions of `values` replaced."""
    statements = []
    for index, statement in enumerate(program.statements):
        args = tuple(
            values.get((index, operand), arg) for operand, arg in enumerate(statement.args)
        )
        statements.append(Statement(statement.target, statement.op, args))
    return replace(program, statements=tuple(statements))


def have_equal_structure(first: Program, second: Program) -> bool:
    """Whether the statements of two programs are equal except for their constants."""
    if len(first.statements) != len(second.statements):
        return False
    return all(
        a is b or without_constants(a) == without_constants(b)
        for a, b in zip(first.statements, second.statements, strict=True)
    )


def without_constants(statement: Statement) -> tuple[object, ...]:
    """Return the target, op and arguments of a statement, with None for each constant."""
    target, op, args = statement
    return (target, op, *(None if isinstance(arg, float) else arg for arg in args))
