"""Family tree of the champions, as text for a terminal and as an SVG picture.

Each ancestor has a row, oldest first, and each branch has a lane, which is a column of the picture.
The first lane holds the last champion and its ancestors; each branch that ends in an earlier
champion has another lane.
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
        passing_lanes: Lanes of other branches that pass this row.
    """

    ancestor: Ancestor
    champion: int | None
    lane: int
    parent: tuple[int, int] | None
    passing_lanes: frozenset[int]

    @property
    def text(self) -> str:
        """Id, fitness, mutation and, of a champion, its number."""
        ancestor = self.ancestor
        fitness = "" if ancestor.fitness is None else f"  {ancestor.fitness:+.3f}"
        count = ancestor.neutral
        neutral_mutations = f"  (+ {count} neutral mutation{'s' * (count != 1)})" if count else ""
        rank = "" if self.champion is None else f"  champion {self.champion}"
        return f"#{ancestor.id}{fitness}  {printable(ancestor.mutation)}{neutral_mutations}{rank}"


def rows(tree: nx.DiGraph[int]) -> list[Row]:
    """Return the rows of a family tree that `lineage.family` made."""
    lanes = _lanes(tree)
    nodes = sorted(tree)
    row_of = {node: index for index, node in enumerate(nodes)}
    first_row: dict[int, int] = {}
    last_row: dict[int, int] = {}
    for node in nodes:
        parent = _parent(tree, node)
        first_row.setdefault(lanes[node], row_of[node] if parent is None else row_of[parent])
        last_row[lanes[node]] = row_of[node]
    result = []
    for index, node in enumerate(nodes):
        parent = _parent(tree, node)
        data = tree.nodes[node]
        passing_lanes = frozenset(
            lane for lane in last_row if first_row[lane] < index < last_row[lane]
        )
        result.append(
            Row(
                data["ancestor"],
                data["champion"],
                lanes[node],
                None if parent is None else (row_of[parent], lanes[parent]),
                passing_lanes,
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
    champions = sorted(
        (number, node) for node, number in tree.nodes(data="champion") if number is not None
    )
    for _, champion in reversed(champions):
        node: int | None = champion
        lane = len(set(lanes.values()))
        while node is not None and node not in lanes:
            lanes[node] = lane
            node = _parent(tree, node)
    return lanes


def to_text(rows: list[Row]) -> list[str]:
    """Return the tree as lines: one for each ancestor, and one for each branch."""
    lane_count = max((row.lane for row in rows), default=0) + 1
    new_lanes: dict[int, set[int]] = {}  # by the row of the parent from which a lane branches off
    for row in rows:
        if row.parent is not None and row.parent[1] != row.lane:
            new_lanes.setdefault(row.parent[0], set()).add(row.lane)
    lines = []
    for index, row in enumerate(rows):
        cells = ["│ " if lane in row.passing_lanes else "  " for lane in range(lane_count)]
        cells[row.lane] = "● " if row.champion is not None else "○ "
        lines.append(f"{''.join(cells)} {row.text}")
        continuing = set(row.passing_lanes)
        if _continues(rows, index):
            continuing.add(row.lane)
        for new_lane in sorted(new_lanes.get(index, ()), reverse=True):
            cells = ["│ " if lane in continuing else "  " for lane in range(lane_count)]
            crossed = range(row.lane + 1, new_lane)
            cells[row.lane : new_lane + 1] = [
                "├─",
                *("┼─" if lane in continuing else "──" for lane in crossed),
                "╮ ",
            ]
            lines.append("".join(cells).rstrip())
            continuing.add(new_lane)
    return lines


def _continues(rows: list[Row], index: int) -> bool:
    """Return whether the lane of a row has more rows below."""
    return any(row.lane == rows[index].lane for row in rows[index + 1 :])


def to_svg(rows: list[Row]) -> str:
    """Return the tree as a self-contained SVG document."""
    lane_count = max((row.lane for row in rows), default=0) + 1
    text_x = _MARGIN + lane_count * _LANE
    text_width = max((len(row.text) for row in rows), default=0) * _CHARACTER
    width = text_x + text_width + _MARGIN
    height = 2 * _MARGIN + len(rows) * _ROW
    elements = []
    for index, row in enumerate(rows):
        x, y = _node_position(index, row.lane)
        if row.parent is not None:
            parent_x, parent_y = _node_position(*row.parent)
            row_below = parent_y + _ROW
            bend = f"C {parent_x:g} {row_below:g} {x:g} {parent_y:g} {x:g} {row_below:g}"
            middle = f" {bend}" if parent_x != x else ""
            elements.append(f'<path d="M {parent_x:g} {parent_y:g}{middle} L {x:g} {y:g}"/>')
    for index, row in enumerate(rows):
        x, y = _node_position(index, row.lane)
        class_attribute = ' class="champion"' if row.champion is not None else ""
        elements.append(
            f'<g{class_attribute}><circle cx="{x:g}" cy="{y:g}" r="5"/>'
            f'<text x="{text_x:g}" y="{y + 4:g}">{as_xml(row.text)}</text></g>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
            f'viewBox="0 0 {width:.0f} {height}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *elements,
            "</svg>\n",
        ]
    )


def _node_position(row: int, lane: int) -> tuple[float, float]:
    """Return the coordinates of a node's centre, in pixels."""
    return _MARGIN + lane * _LANE, _MARGIN + (row + 0.5) * _ROW
