"""Family tree of the champions, as text for a terminal and as an SVG picture.

Each ancestor has a row, oldest first, and each branch has a lane. The first lane is the last
champion's line of descent; each branch that ends in an earlier champion has another lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evosearch.runs.lineage import Ancestor
from primitives.text.printable import as_xml, printable

if TYPE_CHECKING:
    import networkx as nx

_ROW, _LANE, _MARGIN, _CHARACTER = 24, 18, 16, 7.3
"""Height of a row, width of a lane, margin and width of a character, in pixels."""
_STYLE = """
text { font: 12px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1e293b; }
.champion text { font-weight: bold; }
circle { fill: #fff; stroke: #94a3b8; stroke-width: 1.5; }
.champion circle { fill: #22c55e; stroke: #15803d; }
path { fill: none; stroke: #94a3b8; stroke-width: 1.5; }
"""


@dataclass(frozen=True)
class Row:
    """An ancestor's row in the picture of a family tree.

    Attributes:
        ancestor: The ancestor.
        champion: The ancestor's number as a champion, from 0; None for other programs.
        lane: Index of the ancestor's lane.
        parent: Row and lane of the ancestor's parent; None for a root.
        open: Lanes that continue past this row.
    """

    ancestor: Ancestor
    champion: int | None
    lane: int
    parent: tuple[int, int] | None
    open: frozenset[int]

    @property
    def text(self) -> str:
        """Id, fitness, mutation and, of a champion, its number."""
        ancestor = self.ancestor
        fitness = "" if ancestor.fitness is None else f"  {ancestor.fitness:+.3f}"
        count = ancestor.neutral
        neutral = f"  (+ {count} neutral mutation{'s' * (count != 1)})" if count else ""
        rank = "" if self.champion is None else f"  champion {self.champion}"
        return f"#{ancestor.id}{fitness}  {printable(ancestor.mutation)}{neutral}{rank}"


def rows(tree: nx.DiGraph[int]) -> list[Row]:
    """Return the rows of a family tree that `lineage.family` made."""
    lanes = _lanes(tree)
    order = sorted(tree)
    row_of = {node: number for number, node in enumerate(order)}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for node in order:
        parent = _parent(tree, node)
        first.setdefault(lanes[node], row_of[node] if parent is None else row_of[parent])
        last[lanes[node]] = row_of[node]
    result = []
    for number, node in enumerate(order):
        parent = _parent(tree, node)
        data = tree.nodes[node]
        result.append(
            Row(
                data["ancestor"],
                data["champion"],
                lanes[node],
                None if parent is None else (row_of[parent], lanes[parent]),
                frozenset(lane for lane in last if first[lane] < number < last[lane]),
            )
        )
    return result


def _parent(tree: nx.DiGraph[int], node: int) -> int | None:
    return next(iter(tree.predecessors(node)), None)


def _lanes(tree: nx.DiGraph[int]) -> dict[int, int]:
    """Return the lane of each node; the last champion and its ancestors have lane 0.

    Each earlier champion, the latest first, gets the next lane, together with its ancestors that
    have no lane yet.
    """
    lanes: dict[int, int] = {}
    champions = [(data["champion"], node) for node, data in tree.nodes(data=True)]
    numbered = sorted((n, node) for n, node in champions if n is not None)
    for _, champion in reversed(numbered):
        node: int | None = champion
        lane = len(set(lanes.values()))
        while node is not None and node not in lanes:
            lanes[node] = lane
            node = _parent(tree, node)
    return lanes


def to_text(rows: list[Row]) -> list[str]:
    """Return the tree as lines: one for each ancestor, and one for each branch."""
    width = max((row.lane for row in rows), default=0) + 1
    branches: dict[int, set[int]] = {}
    for row in rows:
        if row.parent is not None and row.parent[1] != row.lane:
            branches.setdefault(row.parent[0], set()).add(row.lane)
    lines = []
    for number, row in enumerate(rows):
        cells = ["│ " if lane in row.open else "  " for lane in range(width)]
        cells[row.lane] = "● " if row.champion is not None else "○ "
        lines.append(f"{''.join(cells)} {row.text}")
        continuing = {*row.open} | ({row.lane} if _continues(rows, number) else set())
        for lane in sorted(branches.get(number, ()), reverse=True):
            cells = ["│ " if other in continuing else "  " for other in range(width)]
            crossed = range(row.lane + 1, lane)
            cells[row.lane : lane + 1] = [
                "├─",
                *("┼─" if other in continuing else "──" for other in crossed),
                "╮ ",
            ]
            lines.append("".join(cells).rstrip())
            continuing.add(lane)
    return lines


def _continues(rows: list[Row], number: int) -> bool:
    """Return whether the lane of a row has more rows below."""
    return any(row.lane == rows[number].lane for row in rows[number + 1 :])


def to_svg(rows: list[Row]) -> str:
    """Return the tree as a self-contained SVG document."""
    width = max((row.lane for row in rows), default=0) + 1
    left = _MARGIN + width * _LANE
    right = left + max((len(row.text) for row in rows), default=0) * _CHARACTER + _MARGIN
    height = 2 * _MARGIN + len(rows) * _ROW
    strokes = []
    for number, row in enumerate(rows):
        x, y = _point(number, row.lane)
        if row.parent is not None:
            from_x, from_y = _point(*row.parent)
            below = from_y + _ROW
            bend = f"C {from_x:g} {below:g} {x:g} {from_y:g} {x:g} {below:g}"
            middle = f" {bend}" if from_x != x else ""
            strokes.append(f'<path d="M {from_x:g} {from_y:g}{middle} L {x:g} {y:g}"/>')
    for number, row in enumerate(rows):
        x, y = _point(number, row.lane)
        kind = ' class="champion"' if row.champion is not None else ""
        strokes.append(
            f'<g{kind}><circle cx="{x:g}" cy="{y:g}" r="5"/>'
            f'<text x="{left:g}" y="{y + 4:g}">{as_xml(row.text)}</text></g>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{right:.0f}" height="{height}" '
            f'viewBox="0 0 {right:.0f} {height}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *strokes,
            "</svg>\n",
        ]
    )


def _point(row: int, lane: int) -> tuple[float, float]:
    return _MARGIN + lane * _LANE, _MARGIN + (row + 0.5) * _ROW
