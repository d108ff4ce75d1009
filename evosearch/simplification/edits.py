"""Edits that shorten a program: the value of a statement is replaced by an operand, 0 or 1.

A weight decay or learning rate is not replaced by 1. The strength of a weight decay or learning
rate is a hyperparameter, and a program without this number is no simpler.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import itemgetter

from primitives import Program, ProgramError, Statement, live, semantic_key, simplify
from primitives.graph.roles import roles

_CONSTANTS = (0.0, 1.0)


@dataclass(frozen=True)
class Edit:
    """An edit that replaces the value of one or two statements by an operand or a constant.

    Attributes:
        changes: Pairs of the index of a statement and the replacement of its value.
        program: The edited program, simplified by algebra.
    """

    changes: tuple[tuple[int, str | float], ...]
    program: Program

    def describe(self, source: Program) -> str:
        """Describe the edit in words; `source` is the program before the edit."""
        return " and ".join(
            f"`{source.statements[index]}` becomes {replacement}"
            for index, replacement in self.changes
        )


def edits(program: Program) -> list[Edit]:
    """Return the edits of one statement whose result is shorter or has fewer states.

    The value of the statement is replaced by one of its operands, 0 or 1. Results are simplified by
    algebra; of several with the same semantic key only the first is returned.
    """
    return _distinct(program, ((change,) for change in _replacements(program)))


def edits_by_statement(program: Program) -> dict[int, list[Edit]]:
    """Return the edits of each statement, as in `edits`, by the index of the statement.

    Results of different statements may have the same semantic key. Statements without edits are
    left out.
    """
    result = {}
    for index, changes in groupby(_replacements(program), key=itemgetter(0)):
        statement_edits = _distinct(program, ((change,) for change in changes))
        if statement_edits:
            result[index] = statement_edits
    return result


def pair_edits(program: Program) -> list[Edit]:
    """Return the edits of two statements that save at least two statements or states."""
    change_pairs = combinations(_replacements(program), 2)
    return _distinct(
        program,
        (
            (first, second)
            for first, second in change_pairs
            if first[0] != second[0]  # the indices of the statements
        ),
        min_saved=2,
    )


def _replacements(program: Program) -> Iterator[tuple[int, str | float]]:
    """Yield pairs of the index of a statement and a replacement of its value."""
    hyperparameters = _hyperparameter_statements(program)
    for index, statement in enumerate(program.statements):
        operands = dict.fromkeys(arg for arg in statement.args if isinstance(arg, str))
        choices: list[str | float] = [*operands, *_CONSTANTS]
        for replacement in choices:
            if index not in hyperparameters or replacement == 0.0:
                yield index, replacement


def _hyperparameter_statements(program: Program) -> set[int]:
    """Return the indices of statements with a constant that is a weight decay or learning rate."""
    if live(program) != program:  # roles are only defined for live programs
        return set()
    program_roles = roles(program)
    weight_decays = [
        constant
        for constant in program_roles.hyperparameters
        if constant.name.startswith("weight_decay")
    ]
    return {
        index
        for constant in (program_roles.learning_rate, *weight_decays)
        for index, _ in (*constant.positions, *constant.unit_positions)
    }


def _distinct(
    program: Program,
    change_sets: Iterable[tuple[tuple[int, str | float], ...]],
    min_saved: int = 1,
) -> list[Edit]:
    """Apply changes; return the valid edits with distinct keys that save enough statements."""
    edits_by_key: dict[str, Edit] = {}
    for changes in change_sets:
        edited = _apply(program, changes)
        if edited is not None and _saved_count(program, edited) >= min_saved:
            edits_by_key.setdefault(semantic_key(edited), Edit(changes, edited))
    return list(edits_by_key.values())


def _apply(program: Program, changes: tuple[tuple[int, str | float], ...]) -> Program | None:
    """Edit a program and simplify it; return None if it is invalid or ignores the gradient."""
    statements = list(program.statements)
    for index, replacement in changes:
        statements[index] = Statement(statements[index].target, "identity", (replacement,))
    edited = Program(program.parameters, tuple(statements), program.returns)
    try:
        if not _reads_gradient(live(edited)):
            return None
        return simplify(edited).program
    except ProgramError:
        return None


def _reads_gradient(program: Program) -> bool:
    args = {arg for statement in program.statements for arg in statement.args}
    return program.gradient in args or program.gradient in program.returns


def _saved_count(program: Program, edited: Program) -> int:
    """Return the number of statements and states saved; 0 if there are more statements."""
    if len(edited.statements) > len(program.statements):
        return 0
    size_before, size_after = (
        len(each.statements) + len(each.states) for each in (program, edited)
    )
    return size_before - size_after
