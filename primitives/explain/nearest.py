"""The known optimizer that is nearest to a program, and the lines in which the two differ.

The distance compares the shapes of simplified programs: ops and dataflow, without names, constants
and the order of statements. Every value is labelled by its op. Each of four rounds computes a new
label for a value from its op and the labels of its operands (Weisfeiler and Lehman 1968), and for a
state from the label of its next value. The distance is 1 minus the Jaccard similarity of the labels
of all rounds: 0 for equal shapes, 1 for programs with nothing in common.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from importlib import resources
from typing import Any

from primitives import zoo
from primitives.algebra import simplify
from primitives.explain.names import canonical
from primitives.graph.keys import mix
from primitives.graph.nodes import GRADIENT, WEIGHTS
from primitives.graph.statements import StatementGraph
from primitives.parsing import parse
from primitives.program import Program

FAR = 0.9
"""Distance above which a program counts as unlike any known optimizer."""
_ROUNDS = 4
_CONSTANT, _LEAF, _STATE = 1, 2, 3
_INPUTS = {WEIGHTS: 0, GRADIENT: 1, "lr": 2, "t": 3}


@dataclass(frozen=True)
class Nearest:
    """The zoo program that is nearest to a program.

    Attributes:
        name: the name of the zoo program.
        distance: the distance, from 0 (same shape) to 1 (nothing in common).
        program: the program, simplified, under canonical names.
        known: the zoo program, simplified, under canonical names.
    """

    name: str
    distance: float
    program: Program
    known: Program

    def document(self) -> dict[str, Any]:
        """Return name, distance and differing lines as a JSON document."""
        return {"name": self.name, "distance": self.distance, "diff": self.diff}

    @property
    def diff(self) -> list[str]:
        """Lines that only `known` has (`- `), and lines that only `program` has (`+ `)."""
        return changed_lines(self.known, self.program)


def nearest(program: Program) -> Nearest:
    """Return the zoo program at the smallest distance from `program`.

    Ties are broken by the number of constants of `program` that the zoo program lacks, then by the
    number of statements of the zoo program, then by its name.

    Args:
        program: the program to compare with the zoo; it is simplified first.

    Raises:
        ProgramError: the program is not valid.
    """
    simplified = canonical(simplify(program).program)
    labels, constants = _labels(simplified), _constants(simplified)

    def distance(name: str) -> tuple[float, int, int]:
        known_labels, known_constants = _known_features(name)
        length = len(_known(name).statements)
        return (
            _jaccard_distance(labels, known_labels),
            (constants - known_constants).total(),
            length,
        )

    nearest_name = min(zoo.names(), key=distance)
    return Nearest(nearest_name, distance(nearest_name)[0], simplified, _known(nearest_name))


@lru_cache
def _known(name: str) -> Program:
    return _known_programs()[name]


@lru_cache
def _known_programs() -> dict[str, Program]:
    """Read the simplified zoo programs from `known_forms.txt`.

    Simplifying the zoo takes a third of a second, reading the file does not. A test compares the
    file with `known_forms`.
    """
    text = resources.files(__package__).joinpath("known_forms.txt").read_text(encoding="utf-8")
    blocks = [block.split("\n", 1) for block in text.removeprefix("# ").split("\n# ")]
    return {name: parse(source) for name, source in blocks}


def known_forms() -> str:
    """Return the text of `known_forms.txt`: each zoo program, simplified, after its name."""
    forms = {name: canonical(simplify(zoo.load(name)).program) for name in zoo.names()}
    return "\n".join(f"# {name}\n{program}" for name, program in forms.items())


@lru_cache
def _known_features(name: str) -> tuple[Counter[int], Counter[float]]:
    """Return the labels and the constants of a simplified zoo program."""
    return _labels(_known(name)), _constants(_known(name))


def _constants(program: Program) -> Counter[float]:
    return Counter(
        arg
        for statement in program.statements
        for arg in statement.args
        if not isinstance(arg, str)
    )


def _jaccard_distance(first: Counter[int], second: Counter[int]) -> float:
    """Return 1 minus the Jaccard similarity of two multisets."""
    union = (first | second).total()
    return 1 - (first & second).total() / union if union else 0.0


def _labels(program: Program) -> Counter[int]:
    """Count the labels of all values in all rounds."""
    graph = StatementGraph(program)
    labels = {leaf: mix(_LEAF, _INPUTS.get(leaf.op, 0)) for leaf in graph.parameters}
    labels |= dict.fromkeys(graph.next_values, _STATE)
    labels |= {constant: _CONSTANT for constant in graph.positions if constant.is_constant}
    labels |= {statement: statement.op_entry.tag for statement in graph.statements}
    counts = Counter(labels[statement] for statement in graph.statements)
    for _ in range(_ROUNDS):
        new_labels = dict(labels)
        for state, next_value in graph.next_values.items():
            new_labels[state] = mix(_STATE, labels[next_value])
        for statement in graph.statements:
            operands = [labels[arg] for arg in statement.args]
            label = statement.op_entry.tag
            for operand in sorted(operands) if statement.op_entry.commutative else operands:
                label = mix(label, operand)
            new_labels[statement] = label
        labels = new_labels
        counts.update(labels[statement] for statement in graph.statements)
        counts.update([mix(labels[graph.update], 0)])
    return counts


def changed_lines(before: Program, after: Program) -> list[str]:
    """Return the lines that differ between two programs, without indentation.

    Args:
        before: the program before the change; lines that `after` lacks are returned as `- ...`.
        after: the program after the change; lines that `before` lacks are returned as `+ ...`,
            after the lines that they replace.
    """
    old, new = ([line.strip() for line in str(program).splitlines()] for program in (before, after))
    changed = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag != "equal":
            changed += [f"- {line}" for line in old[old_start:old_end]]
            changed += [f"+ {line}" for line in new[new_start:new_end]]
    return changed
