"""The champions' family tree as lines for a terminal and as a picture.

One row an ancestor, oldest first, in lanes: the last champion's line of descent is the first lane,
and every branch that ended in another champion has one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evosearch.runs.lineage import Ancestor
from primitives.text.printable import as_xml, printable

if TYPE_CHECKING:
    import networkx as nx

_ROW, _LANE, _MARGIN, _CHARACTER = 24, 18, 16, 7.3
_STYLE = """
text { font: 12px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1e293b; }
.champion text { font-weight: bold; }
circle { fill: #fff; stroke: #94a3b8; stroke-width: 1.5; }
.champion circle { fill: #22c55e; stroke: #15803d; }
path { fill: none; stroke: #94a3b8; stroke-width: 1.5; }
"""


@dataclass(frozen=True)
class Row:
    """One ancestor in the picture.

    Attributes:
        ancestor: whose row it is.
        champion: its number as a champion, from 0; None for others.
        lane: where it stands.
        parent: the row and lane that it descends from; None for the first of a line.
        open: lanes that pass this row on their way down.
    """

    ancestor: Ancestor
    champion: int | None
    lane: int
    parent: tuple[int, int] | None
    open: frozenset[int]

    @property
    def text(self) -> str:
        """Id, fitness, what made it, and whether it was a champion."""
        one = self.ancestor
        fitness = "" if one.fitness is None else f"  {one.fitness:+.3f}"
        drift = f"  (+ {one.neutral} neutral)" if one.neutral else ""
        rank = "" if self.champion is None else f"  champion {self.champion}"
        return f"#{one.id}{fitness}  {printable(one.mutation)}{drift}{rank}"


def rows(tree: nx.DiGraph[int]) -> list[Row]:
    """The rows of a family tree, from `lineage.family`."""
    lanes = _lanes(tree)
    order = sorted(tree)
    place = {node: number for number, node in enumerate(order)}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for node in order:
        parent = _parent(tree, node)
        first.setdefault(lanes[node], place[node] if parent is None else place[parent])
        last[lanes[node]] = place[node]
    found = []
    for number, node in enumerate(order):
        parent = _parent(tree, node)
        data = tree.nodes[node]
        found.append(
            Row(
                data["ancestor"],
                data["champion"],
                lanes[node],
                None if parent is None else (place[parent], lanes[parent]),
                frozenset(lane for lane in last if first[lane] < number < last[lane]),
            )
        )
    return found


def _parent(tree: nx.DiGraph[int], node: int) -> int | None:
    return next(iter(tree.predecessors(node)), None)


def _lanes(tree: nx.DiGraph[int]) -> dict[int, int]:
    """Each champion's line, from the last one back, up to where it meets a line that is placed."""
    lanes: dict[int, int] = {}
    champions = [(data["champion"], node) for node, data in tree.nodes(data=True)]
    known = sorted((n, node) for n, node in champions if n is not None)
    for _, champion in reversed(known):
        node: int | None = champion
        lane = len(set(lanes.values()))
        while node is not None and node not in lanes:
            lanes[node] = lane
            node = _parent(tree, node)
    return lanes


def to_text(found: list[Row]) -> list[str]:
    """The tree for a terminal: a line an ancestor, and one for each branch that leaves it."""
    width = max((row.lane for row in found), default=0) + 1
    branches: dict[int, set[int]] = {}
    for row in found:
        if row.parent is not None and row.parent[1] != row.lane:
            branches.setdefault(row.parent[0], set()).add(row.lane)
    lines = []
    for number, row in enumerate(found):
        cells = ["│ " if lane in row.open else "  " for lane in range(width)]
        cells[row.lane] = "● " if row.champion is not None else "○ "
        lines.append(f"{''.join(cells)} {row.text}")
        going_on = {*row.open} | ({row.lane} if _goes_on(found, number) else set())
        for lane in sorted(branches.get(number, ()), reverse=True):
            cells = ["│ " if one in going_on else "  " for one in range(width)]
            between = range(row.lane + 1, lane)  # a line meets only lanes to its left
            cells[row.lane : lane + 1] = [
                "├─",
                *("┼─" if one in going_on else "──" for one in between),
                "╮ ",
            ]
            lines.append("".join(cells).rstrip())
            going_on.add(lane)
    return lines


def _goes_on(found: list[Row], number: int) -> bool:
    """Whether the lane of a row has more rows below."""
    return any(row.lane == found[number].lane for row in found[number + 1 :])


def to_svg(found: list[Row]) -> str:
    """The tree as an SVG document that stands alone."""
    width = max((row.lane for row in found), default=0) + 1
    left = _MARGIN + width * _LANE
    right = left + max((len(row.text) for row in found), default=0) * _CHARACTER + _MARGIN
    height = 2 * _MARGIN + len(found) * _ROW
    strokes = []
    for number, row in enumerate(found):
        x, y = _point(number, row.lane)
        if row.parent is not None:
            from_x, from_y = _point(*row.parent)
            below = from_y + _ROW
            bend = f"C {from_x:g} {below:g} {x:g} {from_y:g} {x:g} {below:g}"
            middle = f" {bend}" if from_x != x else ""
            strokes.append(f'<path d="M {from_x:g} {from_y:g}{middle} L {x:g} {y:g}"/>')
    for number, row in enumerate(found):
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
