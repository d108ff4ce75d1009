"""Drawing of a program's graph as SVG.

Values flow from left to right. Dashed loops carry states to the next step.
"""

from __future__ import annotations

from primitives.explain.dataflow import Graph
from primitives.explain.layout import Slot, arrange, box, heights
from primitives.text.printable import as_xml

_LABEL_CHARACTER, _CAPTION_CHARACTER = 7.3, 5.8
"""Width of a character in labels and in captions, in pixels. The font is monospaced."""
_MARGIN = 20.0
_BOX_GAP = 14.0  # between two boxes of a layer
_LAYER_GAP = 30.0
_LOOP_SPACING = 12.0
_PORT_SPACING = 9.0  # between the ends of two arrows at a box
_PASSING_HEIGHT = 4.0  # of an arrow that passes a layer
_LAYER_PADDING = 10.0

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
    """Return `graph` as a self-contained SVG document.

    Args:
        graph: a graph that `to_graph` returned.

    Example:
        >>> from primitives import to_graph, zoo
        >>> to_svg(to_graph(zoo.load("sgd"))).startswith("<svg ")
        True
    """
    return _Drawing(graph).document()


class _Drawing:
    """Computes all positions, then draws loops, arrows and boxes, from back to front."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.layer_of, self.layers = arrange(graph)
        self.width = {node: _box_width(graph, node) for node in graph}
        self.height = {node: _box_height(graph, node) for node in graph}
        sizes = {
            slot: self.height[slot[0]] if slot[1] < 0 else _PASSING_HEIGHT
            for row in self.layers.rows
            for slot in row
        }
        self.y = {slot: _MARGIN + y for slot, y in heights(self.layers, sizes, _BOX_GAP).items()}
        self.bottom = max(self.y[slot] + size / 2 for slot, size in sizes.items())
        # Pairs (node of a state's next value, node of the state), shortest loops first.
        self.loops = sorted(
            ((source, target) for source, target, is_loop in graph.edges(data="loop") if is_loop),
            key=lambda edge: self.layer_of[edge[0]] - self.layer_of[edge[1]],
        )
        self.left, self.right = self._columns()

    def _columns(self) -> tuple[list[float], list[float]]:
        """Return the left and the right edge of each layer.

        Each loop widens the gaps between layers that the loop goes through.
        """
        left, right = [], []
        x = _MARGIN + _LOOP_SPACING * sum(self.layer_of[state] == 0 for _, state in self.loops)
        for number, row in enumerate(self.layers.rows):
            left.append(x)
            x += 2 * _LAYER_PADDING + max(
                self.width[node] for node, passed_layer in row if passed_layer < 0
            )
            right.append(x)
            down = sum(self.layer_of[next_value] == number for next_value, _ in self.loops)
            up = sum(self.layer_of[state] == number + 1 for _, state in self.loops)
            x += _LAYER_GAP + _LOOP_SPACING * (down + up)
        return left, right

    def document(self) -> str:
        elements = [*self._loops(), *self._arrows(), *self._boxes(), *self._marks()]
        last = len(self.right) - 1
        loops_from_last = sum(self.layer_of[next_value] == last for next_value, _ in self.loops)
        width = self.right[-1] + _MARGIN + _LOOP_SPACING * loops_from_last
        height = self.bottom + _MARGIN + _LOOP_SPACING * len(self.loops)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
                f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
                f"<style>{_STYLE}</style>",
                _arrowhead("arrow", "#94a3b8") + _arrowhead("back", "#d97706"),
                '<rect width="100%" height="100%" style="stroke: none"/>',
                *elements,
                "</svg>\n",
            ]
        )

    def _ends(self, node: str) -> tuple[float, float]:
        """Return the left and the right edge of a box, which is centred in its layer."""
        number = self.layer_of[node]
        middle = (self.left[number] + self.right[number]) / 2
        return middle - self.width[node] / 2, middle + self.width[node] / 2

    def _ports(self, target: str) -> dict[int, float]:
        """Return for each operand the vertical position at which its arrow ends."""
        arrows = [
            (operand, source)
            for source, _, data in self.graph.in_edges(target, data=True)
            for operand in data["operand_indices"]
        ]
        if box(target) in self.layers.ordered:
            arrows.sort()
        else:  # any order is allowed: choose the order without crossings
            arrows.sort(key=lambda arrow: (self._y_before(arrow[1], target), arrow[0]))
        top = self.y[box(target)] - (len(arrows) - 1) / 2 * _PORT_SPACING
        return {operand: top + _PORT_SPACING * rank for rank, (operand, _) in enumerate(arrows)}

    def _y_before(self, source: str, target: str) -> float:
        """Return the vertical position of an arrow in the layer before its target."""
        before = self.layer_of[target] - 1
        return self.y[box(source) if self.layer_of[source] == before else (source, before)]

    def _arrows(self) -> list[str]:
        return [
            self._arrow(source, target, self._ports(target)[operand])
            for source, target, data in self.graph.edges(data=True)
            for operand in data["operand_indices"]
        ]

    def _marks(self) -> list[str]:
        return [
            f'<text class="mark" x="{self._ends(target)[0] + 4:.1f}" '
            f'y="{self._ports(target)[operand] + 3:.1f}">{as_xml(name)}</text>'
            for _, target, data in self.graph.edges(data=True)
            if data["mark"]
            for operand, name in zip(data["operand_indices"], data["mark"].split(", "), strict=True)
        ]

    def _arrow(self, source: str, target: str, port: float) -> str:
        start, end = self.layer_of[source], self.layer_of[target]
        y = self.y[box(source)]
        path = f"M{self._ends(source)[1]:.1f} {y:.1f} H{self.right[start]:.1f}"
        for number in range(start + 1, end + 1):
            slot: Slot = (source, number) if number < end else box(target)
            next_y = self.y[slot] if number < end else port
            from_x, to_x = self.right[number - 1], self.left[number]
            bend = (from_x + to_x) / 2
            path += f" C{bend:.1f} {y:.1f} {bend:.1f} {next_y:.1f} {to_x:.1f} {next_y:.1f}"
            if number < end:
                path += f" H{self.right[number]:.1f}"
            y = next_y
        path += f" H{self._ends(target)[0]:.1f}"
        return f'<path d="{path}" marker-end="url(#arrow)"/>'

    def _loops(self) -> list[str]:
        paths = []
        down: dict[int, int] = {}  # number of loops that leave each layer
        up: dict[int, int] = {}  # number of loops that return to each layer
        for index, (next_value, state) in enumerate(self.loops):
            start, end = self.layer_of[next_value], self.layer_of[state]
            down[start] = down.get(start, 0) + 1
            up[end] = up.get(end, 0) + 1
            start_x = self.right[start] + _LOOP_SPACING * down[start]
            start_y = self.y[box(next_value)] + self.height[next_value] / 4
            end_x, end_y = self.left[end] - _LOOP_SPACING * up[end], self.y[box(state)]
            bottom = self.bottom + _LOOP_SPACING * (index + 1)
            paths.append(
                _rounded(
                    [
                        (self._ends(next_value)[1], start_y),
                        (start_x, start_y),
                        (start_x, bottom),
                        (end_x, bottom),
                        (end_x, end_y),
                        (self._ends(state)[0], end_y),
                    ]
                )
            )
        return paths

    def _boxes(self) -> list[str]:
        boxes = []
        for node, data in self.graph.nodes(data=True):
            left, right = self._ends(node)
            middle, height = self.y[box(node)], self.height[node]
            x, caption = (left + right) / 2, data["caption"]
            baseline = middle + (4 if not caption else -1)
            boxes.append(
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
        return boxes


def _box_width(graph: Graph, node: str) -> float:
    data = graph.nodes[node]
    text = max(_LABEL_CHARACTER * len(data["label"]), _CAPTION_CHARACTER * len(data["caption"]))
    if data["role"] == "constant":
        return text + 12
    names = [name for _, _, mark in graph.in_edges(node, data="mark") for name in mark.split(", ")]
    marks = _CAPTION_CHARACTER * max(map(len, names), default=0)
    return text + 2 * max(15.0, marks + 8)


def _box_height(graph: Graph, node: str) -> float:
    data = graph.nodes[node]
    operands = sum(len(edge["operand_indices"]) for _, _, edge in graph.in_edges(node, data=True))
    text = 22.0 if data["role"] == "constant" else 36.0 if data["caption"] else 28.0
    return max(text, _PORT_SPACING * operands + 8)


def _rounded(points: list[tuple[float, float]]) -> str:
    """Return a dashed path along `points` with rounded corners."""
    (x, y), *others = points
    path = f"M{x:.1f} {y:.1f}"
    for (before_x, before_y), (corner_x, corner_y), (after_x, after_y) in zip(
        points, others, others[1:], strict=False
    ):
        start, end = (
            _corner_end(corner_x, corner_y, before_x, before_y),
            _corner_end(corner_x, corner_y, after_x, after_y),
        )
        path += f" L{start} Q{corner_x:.1f} {corner_y:.1f} {end}"
    end_x, end_y = points[-1]
    return f'<path class="loop" d="{path} L{end_x:.1f} {end_y:.1f}" marker-end="url(#back)"/>'


def _corner_end(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return the point, towards (to_x, to_y), where the rounding of a corner at (x, y) ends."""
    length = abs(to_x - x) + abs(to_y - y)
    fraction = min(6.0, length / 2) / length if length else 0.0
    return f"{x + fraction * (to_x - x):.1f} {y + fraction * (to_y - y):.1f}"


def _arrowhead(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
        f'style="fill: {colour}; stroke: none"/></marker>'
    )
