"""Lineage of a program since the initial program, and the family tree of the champions.

A mutation that does not change what a program computes, such as a new dead statement, is neutral.
Consecutive programs with the same semantic key count as one ancestor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evosearch.errors import EvosearchError
from evosearch.runs.rows import ProgramRow
from evosearch.runs.run import Run

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Ancestor:
    """Consecutive programs, each the parent of the next, that have the same semantic key.

    Attributes:
        id: Id of the first program.
        last: Id of the last program.
        mutation: The mutation that made the first program; `initial` or `injected` if there was
            no mutation.
        neutral: Number of neutral mutations that followed.
        key: The semantic key.
        statements: Number of live statements of the first program.
        fitness, low, high: Mean and 95% interval; None if the program was never measured on all
            tasks.
        seeds: Number of seeds of the fitness.
    """

    id: int
    last: int
    mutation: str
    neutral: int
    key: str
    statements: int
    fitness: float | None
    low: float | None
    high: float | None
    seeds: int

    def document(self) -> dict[str, Any]:
        """Return the ancestor as a JSON object."""
        return asdict(self)


def lineage(run: Run, number: int) -> list[Ancestor]:
    """Return the ancestors of a program, from the initial program to the program itself.

    Args:
        run: The run of the program.
        number: The program's id.

    Raises:
        UsageError: The run has no program with this id.
        EvosearchError: The run is damaged: a parent's id is not smaller than its child's.
    """
    rows = [run.row(number)]
    while (parent := rows[-1].parent) is not None:
        child = rows[-1].id
        if parent >= child:  # could be a cycle
            raise EvosearchError(
                f"{run.directory} is damaged: the parent of program {child} is {parent}, which is "
                f"not older; run `evosearch check {run.directory}`"
            )
        rows.append(run.row(parent))
    rows.reverse()
    ancestors: list[Ancestor] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end].key != rows[start].key:
            ancestors.append(_ancestor_of(run, rows[start:end]))
            start = end
    return ancestors


def _ancestor_of(run: Run, rows: Sequence[ProgramRow]) -> Ancestor:
    """Return the ancestor of consecutive programs with the same semantic key."""
    first = rows[0]
    measured = run.measured(first.key)
    return Ancestor(
        id=first.id,
        last=rows[-1].id,
        mutation=first.mutation,
        neutral=len(rows) - 1,
        key=first.key,
        statements=first.live_statements,
        fitness=measured.fitness.mean if measured else None,
        low=measured.fitness.low if measured else None,
        high=measured.fitness.high if measured else None,
        seeds=measured.seeds if measured else 0,
    )


def family(run: Run) -> nx.DiGraph[int]:
    """Return the family tree of a run's champions, with edges from parent to child.

    Nodes are the ids of ancestors, with two attributes: `ancestor` (an `Ancestor`) and `champion`
    (the champion's number, counted from 0, or None).
    """
    import networkx as nx

    tree: nx.DiGraph[int] = nx.DiGraph()
    for number, champion in enumerate(run.champions()):
        parent: Ancestor | None = None
        for ancestor in lineage(run, champion.id):
            if ancestor.id not in tree:
                tree.add_node(ancestor.id, ancestor=ancestor, champion=None)
            if parent is not None:
                tree.add_edge(parent.id, ancestor.id)
            parent = ancestor
        if parent is not None:
            tree.nodes[parent.id]["champion"] = number
    return tree
