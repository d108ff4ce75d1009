"""The report of a program: its text, simplified, in words, as equations; ancestors and facts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from evosearch.report.tables import Column, Note, Report, Row, Section, Table, paragraphs
from evosearch.runs.lineage import Ancestor, lineage
from evosearch.runs.run import Run
from evosearch.simplification import Simplification, simplify_by_algebra
from evosearch.simplification.derivation_files import read_derivation
from primitives import (
    Kind,
    Program,
    check,
    equations,
    live,
    semantic_key,
    state_memory,
    to_latex,
    zoo,
)
from primitives.explain.description import describe
from primitives.explain.nearest import FAR, Nearest, nearest

_WIDTH = 100
"""Characters of a line of prose among lines that are not broken."""


class NearestKnown(NamedTuple):
    """The known optimizer that a program is most like.

    Attributes:
        name: in the zoo.
        title: for people.
        distance: 0 for the same rule but for its constants, 1 for nothing in common.
    """

    name: str
    title: str
    distance: float

    def in_words(self) -> str:
        """Which known optimizer a program is or resembles, and how far it is from it."""
        title, distance = self.title, self.distance
        if distance == 0:
            return f"It has the shape of {title}: the same rule, but for its constants."
        if distance > FAR:
            return (
                f"It is close to nothing known: the nearest, {title}, is at distance "
                f"{distance:.2f}."
            )
        return (
            f"The nearest known optimizer is {title}, at distance {distance:.2f} (0: the same rule "
            "but for its constants; 1: nothing in common)."
        )


def nearest_known(program: Program) -> NearestKnown:
    """The known optimizer that `program` is most like."""
    found = nearest(program)
    return NearestKnown(found.name, zoo.entry(found.name).title, found.distance)


def compared(found: Nearest) -> str:
    """The nearest known optimizer in words, and what differs."""
    title = zoo.entry(found.name).title
    if found.distance > FAR:
        return f"It is unlike any known optimizer; {title} is nearest."
    same = "It has the shape of" if found.distance == 0 else "The nearest known optimizer is"
    changes = "\n".join(f"    {line}" for line in found.diff)
    ending = f"; from it to this:\n{changes}" if changes else ", and its constants."
    return f"{same} {title}{ending}"


def simplified(program: Program, place: tuple[Run, int] | None) -> tuple[Simplification, bool]:
    """The derivation that a run keeps, else what algebra gives; and whether it was measured.

    Args:
        program: the program.
        place: its run and id, if it is of one.
    """
    found = read_derivation(place[0].directory, place[1]) if place else None
    return (found, True) if found else (simplify_by_algebra(program), False)


@dataclass(frozen=True)
class Inspection:
    """What there is to say of a program.

    Attributes:
        program: as it was given.
        entry: what the zoo says of it; None for a program that the zoo does not name.
        simplification: the derivation that its run keeps, else what algebra gives.
        measured: whether the simplification was measured.
        ancestors: the oldest first; None for a program of no run.
    """

    program: Program
    entry: zoo.Entry | None
    simplification: Simplification
    measured: bool
    ancestors: Sequence[Ancestor] | None

    @property
    def shown(self) -> Program:
        """The program whose equations are shown: of the zoo its own text, else simplified."""
        return self.simplification.program if self.entry is None else self.program

    def document(self) -> dict[str, Any]:
        """The document of `evosearch show --json`."""
        living, derivation = live(self.program), self.simplification.document()
        simple = self.simplification.program
        return {
            "description": self.entry and _entry_document(self.entry),
            "source": str(self.program),
            "statements": len(self.program.statements),
            "live_source": str(living),
            "live_statements": len(living.statements),
            "semantic_key": semantic_key(self.program),
            "kinds": {name: str(kind) for name, kind in check(self.program).items()},
            "state_memory": state_memory(self.program),
            "equations": _lines(self.program),
            "latex": to_latex(self.program),
            "simplified": derivation["source"],
            "simplified_statements": derivation["statements"],
            "simplified_equations": _lines(simple),
            "simplified_latex": to_latex(simple),
            "in_words": derivation["description"],
            "nearest": derivation["nearest"],
            "derivation": derivation["steps"],
            "measured": self.measured,
            "ablations": derivation["ablations"],
            "lineage": (
                None if self.ancestors is None else [one.document() for one in self.ancestors]
            ),
        }


def inspect(name: str, program: Program, place: tuple[Run, int] | None) -> Inspection:
    """What there is to say of a program.

    Args:
        name: how the user called it.
        program: the program.
        place: its run and id, if it is of one.

    Raises:
        EvosearchError: the run is damaged.
    """
    entry = zoo.entry(name) if name in zoo.names() else None
    ancestors = lineage(*place) if place else None
    return Inspection(program, entry, *simplified(program, place), ancestors)


def _entry_document(entry: zoo.Entry) -> dict[str, Any]:
    return asdict(entry) | {"hyperparameters": dict(entry.hyperparameters)}


def _lines(program: Program) -> list[str]:
    return [str(equation) for equation in equations(program)]


def program_report(found: Inspection) -> Report:
    """A program as text, simplified, in words, as equations, with its ancestors and facts."""
    sections = [
        *_header(found.entry),
        *_texts(found.program),
        *_readable(found),
        _verbatim(_equations(found)),
    ]
    if found.ancestors:
        sections += [
            Section(notes=paragraphs("lineage:")),
            Section(table=_lineage(found.ancestors)),
        ]
    return Report((*sections, _verbatim(_facts(found.program))))


def _verbatim(text: str) -> Section:
    return Section(notes=(Note(text, verbatim=True),))


def _header(entry: zoo.Entry | None) -> list[Section]:
    if entry is None:
        return []
    defaults = ", ".join(f"{name} {value:g}" for name, value in entry.hyperparameters)
    lines = [f"{entry.title}: {entry.idea}", entry.paper, defaults]
    return [_verbatim("\n".join([*lines, *textwrap.wrap(entry.notes, _WIDTH)]))]


def _texts(program: Program) -> list[Section]:
    """The program as it was given and, if that is shorter, without dead statements."""
    sections, living = [_verbatim(str(program))], live(program)
    if len(living.statements) < len(program.statements):
        sections += [
            Section(notes=paragraphs("without what no update depends on:")),
            _verbatim(str(living)),
        ]
    return sections


def _readable(found: Inspection) -> list[Section]:
    """The simplified program, if it is another one, its description and the nearest known one."""
    program, steps = found.simplification.program, len(found.simplification.steps)
    sections = []
    if found.entry is None and steps:
        how = "by algebra and measurement" if found.measured else "by algebra"
        sections += [
            Section(notes=paragraphs(f"simplified {how}, in {steps} steps:")),
            _verbatim(str(program)),
        ]
    sections.append(_verbatim(textwrap.fill(describe(program), _WIDTH)))
    if found.entry is None:
        sections.append(_verbatim(compared(nearest(program))))
    return sections


def _equations(found: Inspection) -> str:
    """Those of the simplified program; of a known one its own, under the names of its text."""
    title = "one step, from t-1 to t" + (", simplified" if found.entry is None else "")
    return "\n".join([f"{title}:\n", *(f"    {line}" for line in _lines(found.shown))])


def _lineage(ancestors: Sequence[Ancestor]) -> Table:
    """A row for each ancestor: its id, fitness and mutation, with neutral drift folded."""
    columns = (
        Column("id", "d"),
        Column("fitness", "+.3f", missing="not measured"),
        Column("seeds", "d"),
        Column("mutation", wraps=True),
    )
    rows = []
    for one in ancestors:
        drift = f"  (+ {one.neutral} neutral)" if one.neutral else ""
        rows.append(Row((one.id, one.fitness, one.seeds, f"{one.mutation}{drift}")))
    return Table(columns, tuple(rows))


def _facts(program: Program) -> str:
    memory = state_memory(program)
    living = len(live(program).statements)
    return "\n".join(
        [
            f"statements    {len(program.statements)}, of which {living} live",
            f"state memory  {memory:.4g} number{'s' * (memory != 1)} per weight "
            "(of two 1024 x 1024 layers with biases)",
            *_kinds(check(program)),
            f"semantic key  {semantic_key(program)}",
        ]
    )


def _kinds(kinds: Mapping[str, Kind]) -> list[str]:
    """One line for each kind but tensor, which most variables are."""
    lines: list[str] = []
    for kind in dict.fromkeys(kinds.values()):
        if kind != Kind.TENSOR:
            listed = ", ".join(name for name, own in kinds.items() if own == kind)
            lines.append(f"{'' if lines else 'kinds':14}{kind}: {listed}")
    return lines
