"""Programs that are one statement shorter: what a statement computes is replaced by less.

A weight decay or learning rate is not replaced by 1: how strong it is, is for constants to say and
for the rule's user to set, and a rule without the number is no simpler.
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
    """One or two statements of a program replaced by an operand or a constant each.

    Attributes:
        changes: for each statement, by its index, what its readers read instead.
        program: what algebra makes of the result.
    """

    changes: tuple[tuple[int, str | float], ...]
    program: Program

    def described(self, source: Program) -> str:
        """The edit in words; `source` is the program that it edits."""
        return " and ".join(
            f"`{source.statements[index]}` becomes {instead}" for index, instead in self.changes
        )


def edits(program: Program) -> list[Edit]:
    """All programs in which one statement's value is one of its operands, 0 or 1 instead.

    Only such as are shorter, or have fewer states, once they are simplified by algebra; of those
    that compute the same only the first.
    """
    return _distinct(program, (((index, x),) for index, x in _replacements(program)))


def edits_by_statement(program: Program) -> dict[int, list[Edit]]:
    """The same for each statement by itself, by its index; those that have any."""
    found = {
        index: _distinct(program, (((index, x),) for _, x in replacements))
        for index, replacements in groupby(_replacements(program), key=itemgetter(0))
    }
    return {index: candidates for index, candidates in found.items() if candidates}


def pairs(program: Program) -> list[Edit]:
    """The same with two statements replaced, where that is shorter than with either alone."""
    both = combinations(_replacements(program), 2)
    return _distinct(program, (pair for pair in both if pair[0][0] != pair[1][0]), least=2)


def _replacements(program: Program) -> Iterator[tuple[int, str | float]]:
    strengths = _strengths(program)
    for index, statement in enumerate(program.statements):
        operands = dict.fromkeys(arg for arg in statement.args if isinstance(arg, str))
        choices: list[str | float] = [*operands, *_CONSTANTS]
        for instead in choices:
            if index not in strengths or instead == 0.0:
                yield index, instead


def _strengths(program: Program) -> set[int]:
    """The statements that multiply by a weight decay or by the learning rate's constant."""
    if live(program) != program:  # roles speak of live programs
        return set()
    found = roles(program)
    named = [one for one in found.hyperparameters if one.name.startswith("weight_decay")]
    return {
        index
        for one in (found.learning_rate, *named)
        for index, _ in (*one.places, *one.unit_places)
    }


def _distinct(
    program: Program, changes: Iterable[tuple[tuple[int, str | float], ...]], least: int = 1
) -> list[Edit]:
    """The edits that work, are shorter by `least` statements or a state, and differ."""
    found: dict[str, Edit] = {}
    for change in changes:
        shorter = _applied(program, change)
        if shorter is not None and _saves(program, shorter) >= least:
            found.setdefault(semantic_key(shorter), Edit(change, shorter))
    return list(found.values())


def _applied(program: Program, change: tuple[tuple[int, str | float], ...]) -> Program | None:
    """The edited program after algebra; None if it is ill-kinded or does not read the gradient."""
    statements = list(program.statements)
    for index, instead in change:
        statements[index] = Statement(statements[index].target, "identity", (instead,))
    edited = Program(program.parameters, tuple(statements), program.returns)
    try:
        if not _reads_gradient(live(edited)):
            return None
        return simplify(edited).program
    except ProgramError:
        return None


def _reads_gradient(program: Program) -> bool:
    read = {arg for statement in program.statements for arg in statement.args}
    return program.gradient in read or program.gradient in program.returns


def _saves(program: Program, shorter: Program) -> int:
    """Statements saved, where a state counts as a statement too."""
    sizes = [len(one.statements) + len(one.states) for one in (program, shorter)]
    return sizes[0] - sizes[1] if len(shorter.statements) <= len(program.statements) else 0
