"""What there is to say of a program: simplified, in words, beside known ones and its ancestors."""

from __future__ import annotations

from typing import Any

from evosearch.runs.lineage import Ancestor, lineage
from evosearch.runs.run import Run
from evosearch.simplification import Simplification, simplify_by_algebra
from evosearch.simplification.kept import kept
from primitives import Program, equations, to_latex
from primitives.text.printable import printable


def simplified(program: Program, place: tuple[Run, int] | None) -> tuple[Simplification, bool]:
    """The derivation that a run keeps, else what algebra gives; and whether it was measured.

    Args:
        program: the program.
        place: its run and id, if it is of one.
    """
    found = kept(place[0].directory, place[1]) if place else None
    return (found, True) if found else (simplify_by_algebra(program), False)


def inspected(program: Program, place: tuple[Run, int] | None) -> dict[str, Any]:
    """The part of `show --json` that is not just read off the program."""
    found, measured = simplified(program, place)
    document = found.document()
    return {
        "simplified": document["source"],
        "simplified_statements": document["statements"],
        "simplified_equations": [str(equation) for equation in equations(found.program)],
        "simplified_latex": to_latex(found.program),
        "in_words": document["description"],
        "nearest": document["nearest"],
        "derivation": document["steps"],
        "measured": measured,
        "ablations": document["ablations"],
        "lineage": [one.document() for one in lineage(*place)] if place else None,
    }


def lineage_lines(ancestors: list[Ancestor]) -> list[str]:
    """A line for each ancestor: its id, fitness and mutation, with neutral drift folded."""
    lines = []
    for one in ancestors:
        fitness = "not measured" if one.fitness is None else f"{one.fitness:+.3f}"
        drift = f"  (+ {one.neutral} neutral)" if one.neutral else ""
        mutation = f"{printable(one.mutation)}{drift}"
        lines.append(f"{one.id:>8}  {fitness:>12}  {one.seeds:>3}  {mutation}")
    return lines
