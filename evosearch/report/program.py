"""Report of a program: its text, simplified form, equations, ancestors and properties."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from evosearch.report.tables import Column, Note, Report, Row, Section, Table, plain_notes
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
"""Width of prose in characters."""


class NearestOptimizer(NamedTuple):
    """The known optimizer that is nearest to a program.

    Attributes:
        name: The optimizer's name in the zoo.
        title: The optimizer's name in prose.
        distance: Distance from the program to the optimizer; 0 means equal up to constants, 1 means
            nothing in common.
    """

    name: str
    title: str
    distance: float

    def describe_distance(self) -> str:
        """Return a sentence on the optimizer and its distance from the program."""
        title, distance = self.title, self.distance
        if distance == 0:
            return f"The program has the structure of {title}; only constants may differ."
        if distance > FAR:
            return (
                f"The program resembles no known optimizer; the nearest, {title}, is at "
                f"distance {distance:.2f}."
            )
        return (
            f"The nearest known optimizer is {title}, at distance {distance:.2f} (0: equal up to "
            "constants; 1: nothing in common)."
        )


def nearest_optimizer(program: Program) -> NearestOptimizer:
    """Return the known optimizer that is nearest to `program`."""
    match = nearest(program)
    return NearestOptimizer(match.name, zoo.entry(match.name).title, match.distance)


def describe_differences(match: Nearest) -> str:
    """Return a sentence on the nearest known optimizer, followed by the lines that differ."""
    title = zoo.entry(match.name).title
    if match.distance > FAR:
        return f"The program resembles no known optimizer; the nearest is {title}."
    start = (
        "The program has the structure of"
        if match.distance == 0
        else "The nearest known optimizer is"
    )
    changes = "\n".join(f"    {line}" for line in match.diff)
    end = (
        f"; the differences from it are:\n{changes}"
        if changes
        else ", with the same constants as in the zoo."
    )
    return f"{start} {title}{end}"


def simplified(program: Program, origin: tuple[Run, int] | None) -> tuple[Simplification, bool]:
    """Return the simplification of a program, and whether measurements decided its steps.

    Args:
        program: The program.
        origin: The program's run and id; None for a program that comes from no run. If the run
            holds no measured derivation of the program, the program is simplified by algebra.
    """
    measured = read_derivation(origin[0].directory, origin[1]) if origin else None
    return (measured, True) if measured else (simplify_by_algebra(program), False)


@dataclass(frozen=True)
class Inspection:
    """Content of the report of a program.

    Attributes:
        program: The program, unsimplified.
        entry: The program's entry in the zoo; None for other programs.
        simplification: The program's stored derivation, or a simplification by algebra.
        measured: Whether measurements decided the steps of the simplification.
        ancestors: The program's ancestors, the oldest first; None for a program that comes from no
            run.
    """

    program: Program
    entry: zoo.Entry | None
    simplification: Simplification
    measured: bool
    ancestors: Sequence[Ancestor] | None

    @property
    def program_for_equations(self) -> Program:
        """The program whose equations are shown: simplified, unless it is from the zoo."""
        return self.simplification.program if self.entry is None else self.program

    def document(self) -> dict[str, Any]:
        """Return the document of `evosearch show --json`."""
        live_program, derivation = live(self.program), self.simplification.document()
        simplified_program = self.simplification.program
        return {
            "description": self.entry and _entry_document(self.entry),  # of the zoo's entry
            "source": str(self.program),
            "statements": len(self.program.statements),
            "live_source": str(live_program),
            "live_statements": len(live_program.statements),
            "semantic_key": semantic_key(self.program),
            "kinds": {name: str(kind) for name, kind in check(self.program).items()},
            "state_memory": state_memory(self.program),
            "equations": _equation_lines(self.program),
            "latex": to_latex(self.program),
            "simplified": derivation["source"],
            "simplified_statements": derivation["statements"],
            "simplified_equations": _equation_lines(simplified_program),
            "simplified_latex": to_latex(simplified_program),
            "in_words": derivation["description"],  # what the simplified program computes
            "nearest": derivation["nearest"],
            "derivation": derivation["steps"],
            "measured": self.measured,
            "ablations": derivation["ablations"],
            "lineage": (
                None if self.ancestors is None else [each.document() for each in self.ancestors]
            ),
        }


def inspect(name: str, program: Program, origin: tuple[Run, int] | None) -> Inspection:
    """Collect the content of the report of a program.

    Args:
        name: The PROGRAM argument.
        program: The program.
        origin: The program's run and id; None for a program that comes from no run.

    Raises:
        EvosearchError: The run is damaged.
    """
    entry = zoo.entry(name) if name in zoo.names() else None
    ancestors = lineage(*origin) if origin else None
    return Inspection(program, entry, *simplified(program, origin), ancestors)


def _entry_document(entry: zoo.Entry) -> dict[str, Any]:
    return asdict(entry) | {"hyperparameters": dict(entry.hyperparameters)}


def _equation_lines(program: Program) -> list[str]:
    return [str(equation) for equation in equations(program)]


def program_report(inspection: Inspection) -> Report:
    """Return the report of a program."""
    sections = [
        *_header_sections(inspection.entry),
        *_source_sections(inspection.program),
        *_simplified_sections(inspection),
        _verbatim_section(_equations_text(inspection)),
    ]
    if inspection.ancestors:
        sections += [
            Section(notes=plain_notes("lineage:")),
            Section(table=_lineage_table(inspection.ancestors)),
        ]
    return Report((*sections, _verbatim_section(_properties_text(inspection.program))))


def _verbatim_section(text: str) -> Section:
    return Section(notes=(Note(text, verbatim=True),))


def _header_sections(entry: zoo.Entry | None) -> list[Section]:
    if entry is None:
        return []
    defaults = ", ".join(f"{name} {value:g}" for name, value in entry.hyperparameters)
    lines = [f"{entry.title}: {entry.idea}", entry.paper, defaults]
    return [_verbatim_section("\n".join([*lines, *textwrap.wrap(entry.notes, _WIDTH)]))]


def _source_sections(program: Program) -> list[Section]:
    """Return the program's text and, if it has dead statements, its text without them."""
    sections, live_program = [_verbatim_section(str(program))], live(program)
    if len(live_program.statements) < len(program.statements):
        sections += [
            Section(notes=plain_notes("without dead statements:")),
            _verbatim_section(str(live_program)),
        ]
    return sections


def _simplified_sections(inspection: Inspection) -> list[Section]:
    """Return sections with the simplified program, its description and the nearest optimizer.

    The simplified program's text is left out if no step changed the program or if the program is
    from the zoo.
    """
    program = inspection.simplification.program
    steps = len(inspection.simplification.steps)
    sections = []
    if inspection.entry is None and steps:
        method = "by algebra and measurement" if inspection.measured else "by algebra"
        sections += [
            Section(notes=plain_notes(f"simplified {method}, in {steps} steps:")),
            _verbatim_section(str(program)),
        ]
    sections.append(_verbatim_section(textwrap.fill(describe(program), _WIDTH)))
    if inspection.entry is None:
        sections.append(_verbatim_section(describe_differences(nearest(program))))
    return sections


def _equations_text(inspection: Inspection) -> str:
    title = "one step, from t-1 to t" + (", simplified" if inspection.entry is None else "")
    return "\n".join(
        [
            f"{title}:\n",
            *(f"    {line}" for line in _equation_lines(inspection.program_for_equations)),
        ]
    )


def _lineage_table(ancestors: Sequence[Ancestor]) -> Table:
    """Return a row for each ancestor, with the number of its neutral mutations."""
    columns = (
        Column("id", "d"),
        Column("fitness", "+.3f", missing="not measured"),
        Column("seeds", "d"),
        Column("mutation", wraps=True),
    )
    rows = []
    for ancestor in ancestors:
        count = ancestor.neutral
        neutral_mutations = f"  (+ {count} neutral mutation{'s' * (count != 1)})" if count else ""
        mutation = f"{ancestor.mutation}{neutral_mutations}"
        rows.append(Row((ancestor.id, ancestor.fitness, ancestor.seeds, mutation)))
    return Table(columns, tuple(rows))


def _properties_text(program: Program) -> str:
    memory = state_memory(program)
    live_statements = len(live(program).statements)
    return "\n".join(
        [
            f"statements    {len(program.statements)}, of which {live_statements} live",
            f"state memory  {memory:.4g} number{'s' * (memory != 1)} per weight "
            "(for two 1024 x 1024 layers with biases)",
            *_kind_lines(check(program)),
            f"semantic key  {semantic_key(program)}",
        ]
    )


def _kind_lines(kinds: Mapping[str, Kind]) -> list[str]:
    """Return a line for each kind except tensor, the most common one."""
    lines: list[str] = []
    for kind in dict.fromkeys(kinds.values()):
        if kind != Kind.TENSOR:
            listed = ", ".join(name for name, each in kinds.items() if each == kind)
            lines.append(f"{'' if lines else 'kinds':14}{kind}: {listed}")
    return lines
