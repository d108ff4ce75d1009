"""The report of a program: its text, simplified, in words, as equations; ancestors and facts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from evosearch.report.tables import Column, Note, Report, Row, Section, Table, paragraphs
from evosearch.runs.lineage import Ancestor, lineage
from evosearch.runs.run import Run
from evosearch.simplification import Simplification, simplify_by_algebra
from evosearch.simplification.kept import kept
from primitives import (
    Program,
    check,
    equations,
    live,
    parse,
    semantic_key,
    state_memory,
    to_latex,
    zoo,
)
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
    found = kept(place[0].directory, place[1]) if place else None
    return (found, True) if found else (simplify_by_algebra(program), False)


def described(name: str, program: Program) -> dict[str, Any]:
    """The part of `show --json` that is read off a program; `name` is how the user called it."""
    living = live(program)
    return {
        "description": _description(name),
        "source": str(program),
        "statements": len(program.statements),
        "live_source": str(living),
        "live_statements": len(living.statements),
        "semantic_key": semantic_key(program),
        "kinds": {variable: str(kind) for variable, kind in check(program).items()},
        "state_memory": state_memory(program),
        "equations": [str(equation) for equation in equations(program)],
        "latex": to_latex(program),
    }


def _description(name: str) -> dict[str, Any] | None:
    """What a zoo program's header says; None for other programs."""
    if name not in zoo.names():
        return None
    entry = zoo.entry(name)
    return asdict(entry) | {"hyperparameters": dict(entry.hyperparameters)}


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


def latex_of(document: Mapping[str, Any]) -> str:
    """The equations of a program that `described` and `inspected` gave, simplified, as LaTeX."""
    found: str = document["latex" if _is_known(document) else "simplified_latex"]
    return found


def program_report(document: Mapping[str, Any]) -> Report:
    """A program as text, simplified, in words, as equations, with its ancestors and facts.

    Args:
        document: what `described` and `inspected` gave.
    """
    sections = [
        *_header(document["description"]),
        *_texts(document),
        *_readable(document),
        Section(notes=(Note(_equations(document), verbatim=True),)),
    ]
    if document["lineage"]:
        ancestors = [Ancestor(**one) for one in document["lineage"]]
        sections += [
            Section(notes=paragraphs("lineage:")),
            Section(table=_lineage(ancestors)),
        ]
    sections.append(Section(notes=(Note(_facts(document), verbatim=True),)))
    return Report(tuple(sections))


def _is_known(document: Mapping[str, Any]) -> bool:
    """Whether it is a program of the zoo, whose own text says best what it is."""
    return document["description"] is not None


def _verbatim(text: str) -> Section:
    return Section(notes=(Note(text, verbatim=True),))


def _header(description: Mapping[str, Any] | None) -> list[Section]:
    if description is None:
        return []
    defaults = ", ".join(f"{k} {v:g}" for k, v in description["hyperparameters"].items())
    lines = [f"{description['title']}: {description['idea']}", description["paper"], defaults]
    return [_verbatim("\n".join([*lines, *textwrap.wrap(description["notes"], _WIDTH)]))]


def _texts(document: Mapping[str, Any]) -> list[Section]:
    """The program as it was given and, if that is shorter, without dead statements."""
    sections = [_verbatim(document["source"])]
    if document["live_statements"] < document["statements"]:
        sections += [
            Section(notes=paragraphs("without what no update depends on:")),
            _verbatim(document["live_source"]),
        ]
    return sections


def _readable(document: Mapping[str, Any]) -> list[Section]:
    """The simplified program, if that is news, with its description and the nearest known one."""
    program, known = parse(document["simplified"]), _is_known(document)
    sections = []
    if not known and document["derivation"]:
        how = "by algebra and measurement" if document["measured"] else "by algebra"
        steps = len(document["derivation"])
        sections += [
            Section(notes=paragraphs(f"simplified {how}, in {steps} steps:")),
            _verbatim(str(program)),
        ]
    sections.append(_verbatim(textwrap.fill(document["in_words"], _WIDTH)))
    if not known:
        sections.append(_verbatim(compared(nearest(program))))
    return sections


def _equations(document: Mapping[str, Any]) -> str:
    """Those of the simplified program; of a known one its own, under the names of its text."""
    own = _is_known(document)
    lines = document["equations" if own else "simplified_equations"]
    title = "one step, from t-1 to t" + ("" if own else ", simplified")
    return "\n".join([f"{title}:\n", *(f"    {line}" for line in lines)])


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


def _facts(document: Mapping[str, Any]) -> str:
    memory = f"{document['state_memory']:.4g} number{'s' * (document['state_memory'] != 1)}"
    return "\n".join(
        [
            f"statements    {document['statements']}, of which {document['live_statements']} live",
            f"state memory  {memory} per weight (of two 1024 x 1024 layers with biases)",
            *_kinds(document["kinds"]),
            f"semantic key  {document['semantic_key']}",
        ]
    )


def _kinds(kinds: Mapping[str, str]) -> list[str]:
    """One line for each kind but tensor, which most variables are."""
    lines: list[str] = []
    for kind in dict.fromkeys(kinds.values()):
        if kind != "tensor":
            listed = ", ".join(name for name, own in kinds.items() if own == kind)
            lines.append(f"{'' if lines else 'kinds':14}{kind}: {listed}")
    return lines
