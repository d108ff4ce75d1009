"""Where a program comes from: its mutations from the seed program on, and the champions' family.

Mutations that changed nothing of what a program computes (dead code, renamings) are neutral drift:
programs in a row with one semantic key are folded into one ancestor.
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
    """Programs in a row that compute the same, from parent to child.

    Attributes:
        id: of the first.
        last: of the last.
        mutation: what made the first from the program before; `initial` or `injected` without one.
        neutral: how many neutral mutations followed.
        key: the semantic key.
        statements: live ones of the first.
        fitness, low, high: mean and 95% interval; None if it was never measured in full.
        seeds: that the fitness is over.
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
        """The ancestor as JSON."""
        return asdict(self)


def lineage(run: Run, number: int) -> list[Ancestor]:
    """The ancestors of a generated program, the seed program first and its own key last.

    Raises:
        UsageError: the run has no program of that id.
        EvosearchError: the run is damaged: a program is no younger than its parent.
    """
    rows = [run.row(number)]
    while (parent := rows[-1].parent) is not None:
        child = rows[-1].id
        if parent >= child:  # it could be its own ancestor
            raise EvosearchError(
                f"{run.directory} is damaged: the parent of program {child} is {parent}, no older "
                f"program; run `evosearch check {run.directory}`"
            )
        rows.append(run.row(parent))
    rows.reverse()
    found: list[Ancestor] = []
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end].key != rows[start].key:
            found.append(_folded(run, rows[start:end]))
            start = end
    return found


def _folded(run: Run, rows: Sequence[ProgramRow]) -> Ancestor:
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
    """The family tree of a run's champions: ancestors by id, an edge for what made each.

    Nodes carry `ancestor` and `champion` (the champion's number, from 0, or None); branches meet
    where champions have ancestors in common.
    """
    import networkx as nx

    tree: nx.DiGraph[int] = nx.DiGraph()
    for place, champion in enumerate(run.champions()):
        before: Ancestor | None = None
        for ancestor in lineage(run, champion.id):
            if ancestor.id not in tree:
                tree.add_node(ancestor.id, ancestor=ancestor, champion=None)
            if before is not None:
                tree.add_edge(before.id, ancestor.id)
            before = ancestor
        if before is not None:
            tree.nodes[before.id]["champion"] = place
    return tree
