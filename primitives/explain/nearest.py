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
"""A program at a larger distance is called unlike any known optimizer."""
_ROUNDS = 4
_CONSTANT, _LEAF, _STATE = 1, 2, 3
_INPUTS = {WEIGHTS: 0, GRADIENT: 1, "lr": 2, "t": 3}


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
    return _known_programs()[name]


@lru_cache
def _known_programs() -> dict[str, Program]:
    """The zoo, simplified, from a file beside this module: algebra would take a third of a second.

    A test compares the file with `known_forms`.
    """
    text = resources.files(__package__).joinpath("known_forms.txt").read_text(encoding="utf-8")
    blocks = [block.split("\n", 1) for block in text.removeprefix("# ").split("\n# ")]
    return {name: parse(source) for name, source in blocks}


def known_forms() -> str:
    """What `known_forms.txt` holds: each zoo program, simplified, under its name."""
    forms = {name: canonical(simplify(zoo.load(name)).program) for name in zoo.names()}
    return "\n".join(f"# {name}\n{program}" for name, program in forms.items())


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
    graph = StatementGraph(program)
    labels = {leaf: mix(_LEAF, _INPUTS.get(leaf.op, 0)) for leaf in graph.parameters}
    labels |= dict.fromkeys(graph.following, _STATE)
    labels |= {constant: _CONSTANT for constant in graph.places if constant.is_constant}
    labels |= {statement: statement.row.tag for statement in graph.statements}
    found = Counter(labels[statement] for statement in graph.statements)
    for _ in range(_ROUNDS):
        new = dict(labels)
        for state, following in graph.following.items():
            new[state] = mix(_STATE, labels[following])
        for statement in graph.statements:
            parts = [labels[arg] for arg in statement.args]
            label = statement.row.tag
            for part in sorted(parts) if statement.row.commutative else parts:
                label = mix(label, part)
            new[statement] = label
        labels = new
        found.update(labels[statement] for statement in graph.statements)
        found.update([mix(labels[graph.update], 0)])
    return found


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
