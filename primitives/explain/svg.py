"""A program's graph as a picture: values flow from left to right, dashed loops carry the state."""

from __future__ import annotations

from primitives.explain.dataflow import Graph
from primitives.explain.layout import Slot, arrange, box, heights
from primitives.text.printable import as_xml

_CHARACTER, _SMALL = 7.3, 5.8
"""Widths of a character of labels and captions, in pixels: their font is monospaced."""
_MARGIN, _GAP, _CHANNEL, _LANE, _PORT, _PASSING, _PAD = 20.0, 14.0, 30.0, 12.0, 9.0, 4.0, 10.0

_STYLE = """
text { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; }
text { font-size: 12px; fill: #1e293b; }
.caption, .mark { font-size: 9.5px; fill: #64748b; }
path { fill: none; stroke: #94a3b8; stroke-width: 1.3; }
path.loop { stroke: #d97706; stroke-dasharray: 5 4; }
rect { fill: #fff; stroke: #94a3b8; }
.input rect { fill: #dbeafe; stroke: #60a5fa; }
.state rect { fill: #fef3c7; stroke: #d97706; }
.update rect { fill: #dcfce7; stroke: #22c55e; }
.constant rect { fill: #f8fafc; stroke: none; }
.constant text { fill: #475569; }
"""


def to_svg(graph: Graph) -> str:
    """`graph`, from `to_graph`, as an SVG document that stands alone."""
    return _Drawing(graph).document()


class _Drawing:
    """Places first, then the strokes: loops, arrows and boxes, from back to front."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.numbers, self.layers = arrange(graph)
        self.width = {node: _box_width(graph, node) for node in graph}
        self.height = {node: _box_height(graph, node) for node in graph}
        sizes = {
            slot: self.height[slot[0]] if slot[1] < 0 else _PASSING
            for row in self.layers.rows
            for slot in row
        }
        self.y = {s: _MARGIN + y for s, y in heights(self.layers, sizes, _GAP).items()}
        self.bottom = max(self.y[slot] + size / 2 for slot, size in sizes.items())
        self.loops = sorted(
            ((u, v) for u, v, loop in graph.edges(data="loop") if loop),
            key=lambda edge: self.numbers[edge[0]] - self.numbers[edge[1]],
        )
        self.left, self.right = self._columns()

    def _columns(self) -> tuple[list[float], list[float]]:
        """The left and right end of each layer; loops widen the channels that they go through."""
        left, right = [], []
        x = _MARGIN + _LANE * sum(self.numbers[state] == 0 for _, state in self.loops)
        for number, row in enumerate(self.layers.rows):
            left.append(x)
            x += 2 * _PAD + max(self.width[node] for node, kind in row if kind < 0)
            right.append(x)
            down = sum(self.numbers[new] == number for new, _ in self.loops)
            up = sum(self.numbers[state] == number + 1 for _, state in self.loops)
            x += _CHANNEL + _LANE * (down + up)
        return left, right

    def document(self) -> str:
        strokes = [*self._loops(), *self._arrows(), *self._boxes(), *self._marks()]
        leaving = sum(self.numbers[new] == len(self.right) - 1 for new, _ in self.loops)
        width = self.right[-1] + _MARGIN + _LANE * leaving
        height = self.bottom + _MARGIN + _LANE * len(self.loops)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
                f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
                f"<style>{_STYLE}</style>",
                _arrowhead("arrow", "#94a3b8") + _arrowhead("back", "#d97706"),
                '<rect width="100%" height="100%" style="stroke: none"/>',
                *strokes,
                "</svg>\n",
            ]
        )

    def _ends(self, node: str) -> tuple[float, float]:
        """The left and right edge of a box, which stands in the middle of its layer."""
        number = self.numbers[node]
        middle = (self.left[number] + self.right[number]) / 2
        return middle - self.width[node] / 2, middle + self.width[node] / 2

    def _ports(self, target: str) -> dict[int, float]:
        """How high the arrow of each operand ends at its box."""
        arrows = [
            (place, source)
            for source, _, data in self.graph.in_edges(target, data=True)
            for place in data["places"]
        ]
        if box(target) in self.layers.ordered:
            arrows.sort()
        else:  # without crossings
            arrows.sort(key=lambda arrow: (self._coming(arrow[1], target), arrow[0]))
        top = self.y[box(target)] - (len(arrows) - 1) / 2 * _PORT
        return {place: top + _PORT * rank for rank, (place, _) in enumerate(arrows)}

    def _coming(self, source: str, target: str) -> float:
        """How high an arrow is in the layer before its target."""
        before = self.numbers[target] - 1
        return self.y[box(source) if self.numbers[source] == before else (source, before)]

    def _arrows(self) -> list[str]:
        return [
            self._arrow(source, target, self._ports(target)[place])
            for source, target, data in self.graph.edges(data=True)
            for place in data["places"]
        ]

    def _marks(self) -> list[str]:
        return [
            f'<text class="mark" x="{self._ends(target)[0] + 4:.1f}" '
            f'y="{self._ports(target)[place] + 3:.1f}">{as_xml(name)}</text>'
            for _, target, data in self.graph.edges(data=True)
            if data["mark"]
            for place, name in zip(data["places"], data["mark"].split(", "), strict=True)
        ]

    def _arrow(self, source: str, target: str, port: float) -> str:
        start, end = self.numbers[source], self.numbers[target]
        y = self.y[box(source)]
        path = f"M{self._ends(source)[1]:.1f} {y:.1f} H{self.right[start]:.1f}"
        for number in range(start + 1, end + 1):
            slot: Slot = (source, number) if number < end else box(target)
            following = self.y[slot] if number < end else port
            from_x, to_x = self.right[number - 1], self.left[number]
            bend = (from_x + to_x) / 2
            path += f" C{bend:.1f} {y:.1f} {bend:.1f} {following:.1f} {to_x:.1f} {following:.1f}"
            if number < end:
                path += f" H{self.right[number]:.1f}"
            y = following
        path += f" H{self._ends(target)[0]:.1f}"
        return f'<path d="{path}" marker-end="url(#arrow)"/>'

    def _loops(self) -> list[str]:
        strokes = []
        down: dict[int, int] = {}
        up: dict[int, int] = {}
        for lane, (new, state) in enumerate(self.loops):
            after, before = self.numbers[new], self.numbers[state]
            down[after] = down.get(after, 0) + 1
            up[before] = up.get(before, 0) + 1
            start_y = self.y[box(new)] + self.height[new] / 4
            strokes.append(
                _rounded(
                    [
                        (self._ends(new)[1], start_y),
                        (self.right[after] + _LANE * down[after], start_y),
                        (self.right[after] + _LANE * down[after], self.bottom + _LANE * (lane + 1)),
                        (self.left[before] - _LANE * up[before], self.bottom + _LANE * (lane + 1)),
                        (self.left[before] - _LANE * up[before], self.y[box(state)]),
                        (self._ends(state)[0], self.y[box(state)]),
                    ]
                )
            )
        return strokes

    def _boxes(self) -> list[str]:
        strokes = []
        for node, data in self.graph.nodes(data=True):
            left, right = self._ends(node)
            middle, height = self.y[box(node)], self.height[node]
            x, caption = (left + right) / 2, data["caption"]
            baseline = middle + (4 if not caption else -1)
            strokes.append(
                f'<g class="{data["role"]}"><title>{as_xml(node)}: {data["kind"]}</title>'
                f'<rect x="{left:.1f}" y="{middle - height / 2:.1f}" width="{right - left:.1f}" '
                f'height="{height:.1f}" rx="{4 if data["role"] == "op" else 10}"/>'
                f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="middle">'
                f"{as_xml(data['label'])}</text>"
                + (
                    f'<text class="caption" x="{x:.1f}" y="{middle + 11:.1f}" '
                    f'text-anchor="middle">{as_xml(caption)}</text>'
                    if caption
                    else ""
                )
                + "</g>"
            )
        return strokes


def _box_width(graph: Graph, node: str) -> float:
    data = graph.nodes[node]
    text = max(_CHARACTER * len(data["label"]), _SMALL * len(data["caption"]))
    if data["role"] == "constant":
        return text + 12
    names = [n for _, _, mark in graph.in_edges(node, data="mark") for n in mark.split(", ")]
    marks = _SMALL * max(map(len, names), default=0)
    return text + 2 * max(15.0, marks + 8)


def _box_height(graph: Graph, node: str) -> float:
    data = graph.nodes[node]
    operands = sum(len(d["places"]) for _, _, d in graph.in_edges(node, data=True))
    text = 22.0 if data["role"] == "constant" else 36.0 if data["caption"] else 28.0
    return max(text, _PORT * operands + 8)


def _rounded(points: list[tuple[float, float]]) -> str:
    """A dashed path along `points` with round corners."""
    (x, y), *others = points
    path = f"M{x:.1f} {y:.1f}"
    for (ax, ay), (bx, by), (cx, cy) in zip(points, others, others[1:], strict=False):
        before, after = _towards(bx, by, ax, ay), _towards(bx, by, cx, cy)
        path += f" L{before} Q{bx:.1f} {by:.1f} {after}"
    end_x, end_y = points[-1]
    return f'<path class="loop" d="{path} L{end_x:.1f} {end_y:.1f}" marker-end="url(#back)"/>'


def _towards(x: float, y: float, to_x: float, to_y: float) -> str:
    """The point from which a corner at (x, y) is rounded."""
    length = abs(to_x - x) + abs(to_y - y)
    share = min(6.0, length / 2) / length if length else 0.0
    return f"{x + share * (to_x - x):.1f} {y + share * (to_y - y):.1f}"


def _arrowhead(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
        f'style="fill: {colour}; stroke: none"/></marker>'
    )
