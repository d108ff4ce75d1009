"""Which known optimizer a program is nearest to, and how it differs.

The distance is between shapes: every value of the simplified program is labelled by its op and, in
rounds, by the labels of what it is made of (Weisfeiler and Lehman 1968); a state counts as made of
what it turns into. Two programs are as far apart as their labels differ, from 0 (the same shape,
whatever the names, the order and the constants) to 1 (nothing in common).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from primitives import zoo
from primitives.algebra import simplify
from primitives.explain.names import canonical
from primitives.graph.keys import mix
from primitives.graph.structure import Structure
from primitives.ops import OPS
from primitives.program import Program

FAR = 0.9
"""A program at a larger distance is called unlike any known optimizer."""
_ROUNDS = 4
_CONSTANT, _LEAF, _STATE = 1, 2, 3


@dataclass(frozen=True)
class Nearest:
    """The zoo program that a program is nearest to.

    Attributes:
        name: in the zoo.
        distance: 0 for the same shape, 1 for nothing in common.
        program: the given program, under canonical names.
        known: the zoo program, simplified, under canonical names.
    """

    name: str
    distance: float
    program: Program
    known: Program

    def document(self) -> dict[str, Any]:
        """What was found, as JSON."""
        return {"name": self.name, "distance": self.distance, "diff": self.diff}

    @property
    def diff(self) -> list[str]:
        """Lines of `known` that are gone (`- `) and of `program` that are new (`+ `)."""
        return changed_lines(self.known, self.program)


def nearest(program: Program) -> Nearest:
    """The zoo program with the shape most like that of `program`.

    Equal shapes are told apart by their constants; of what is equally near the shortest is taken,
    the first by name.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    given = canonical(simplify(program).program)
    shape, numbers = _shape(given), _constants(given)

    def distance(name: str) -> tuple[float, int, int]:
        known_shape, known_numbers = _known_shape(name)
        length = len(_known(name).statements)
        return _apart(shape, known_shape), (numbers - known_numbers).total(), length

    best = min(zoo.names(), key=distance)
    return Nearest(best, distance(best)[0], given, _known(best))


@lru_cache
def _known(name: str) -> Program:
    return canonical(simplify(zoo.load(name)).program)


@lru_cache
def _known_shape(name: str) -> tuple[Counter[int], Counter[float]]:
    return _shape(_known(name)), _constants(_known(name))


def _constants(program: Program) -> Counter[float]:
    return Counter(a for one in program.statements for a in one.args if not isinstance(a, str))


def _apart(one: Counter[int], other: Counter[int]) -> float:
    """1 minus the Jaccard similarity of two multisets."""
    union = (one | other).total()
    return 1 - (one & other).total() / union if union else 0.0


def _shape(program: Program) -> Counter[int]:
    """The labels of all values after each round."""
    structure = Structure(program)
    inputs = {name: number for number, name in enumerate(("w", "g", "lr", "t"))}
    labels = [mix(_LEAF, inputs.get(name, 0)) for name in structure.names]
    for state in structure.next_value:
        labels[state] = _STATE
    labels += [_op(structure, value) for value in range(structure.base, _end(structure))]
    found = Counter(labels[structure.base :])
    for _ in range(_ROUNDS):
        new = list(labels)
        for state, following in structure.next_value.items():
            new[state] = mix(_STATE, labels[following])
        for value in range(structure.base, _end(structure)):
            parts = [labels[a] if type(a) is int else _CONSTANT for a in structure.args(value)]
            op = OPS[structure.op(value)]
            label = _op(structure, value)
            for part in sorted(parts) if op.commutative else parts:
                label = mix(label, part)
            new[value] = label
        labels = new
        found.update(labels[structure.base :])
        found.update([mix(labels[structure.update], 0)])
    return found


def _op(structure: Structure, value: int) -> int:
    return OPS[structure.op(value)].tag


def _end(structure: Structure) -> int:
    return structure.base + len(structure.operands)


def changed_lines(before: Program, after: Program) -> list[str]:
    """The lines that go (`- ...`), each run of them followed by those that come instead (`+ ...`).

    Indentation is left out.
    """
    old, new = ([line.strip() for line in str(one).splitlines()] for one in (before, after))
    found = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag != "equal":
            found += [f"- {line}" for line in old[first:last]]
            found += [f"+ {line}" for line in new[start:end]]
    return found
