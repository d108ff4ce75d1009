"""Layout of a program's graph in layers from left to right.

The method is that of Sugiyama, Tagawa and Toda 1981. Nodes are assigned to layers, sorted within
each layer by barycentres to reduce crossings, and placed so that arrows are nearly straight. An
arrow that spans several layers has a slot in each layer that it passes, so that it runs through no
box.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from primitives.explain.dataflow import UPDATE, Graph

SWEEPS = 12
Slot = tuple[str, int]
"""An element of a layer: the box of a node, `(node, -1)`, or the point at which an arrow passes the
layer, `(source node of the arrow, layer)`.
"""


@dataclass(frozen=True)
class Layers:
    """The slots of each layer and the arrows between neighbouring layers.

    Attributes:
        rows: the slots of each layer from top to bottom.
        above: for each slot, its predecessors in the layer before, in the order of the operands.
        below: for each slot, its successors in the layer after.
        ordered: boxes whose incoming arrows must end in the order of the operands.
    """

    rows: list[list[Slot]]
    above: dict[Slot, list[Slot]]
    below: dict[Slot, list[Slot]]
    ordered: set[Slot]


def box(node: str) -> Slot:
    """Return the slot of a node's box."""
    return node, -1


def layer_numbers(graph: Graph) -> dict[str, int]:
    """Return the layer of each node, counted from 0.

    An op is in the layer after its last operand. A node without operands is in the layer before the
    node's first use.
    """
    import networkx as nx

    forward = nx.DiGraph()
    forward.add_nodes_from(graph)
    forward.add_edges_from(
        (source, target) for source, target, is_loop in graph.edges(data="loop") if not is_loop
    )
    layer = {
        node: number
        for number, generation in enumerate(nx.topological_generations(forward))
        for node in generation
    }
    last = max(layer.values())
    for node in forward:
        if not forward.in_degree(node):
            layer[node] = min((layer[user] for user in forward.successors(node)), default=last) - 1
    first = min(layer.values())
    return {node: number - first for node, number in layer.items()}


def arrange(graph: Graph) -> tuple[dict[str, int], Layers]:
    """Return the layer of each node of `graph`, and the layers with sorted slots."""
    import networkx as nx

    layer_of = layer_numbers(graph)
    rows: list[list[Slot]] = [[] for _ in range(max(layer_of.values()) + 1)]
    above: dict[Slot, list[Slot]] = defaultdict(list)
    below: dict[Slot, list[Slot]] = defaultdict(list)

    def add(slot: Slot, number: int) -> None:
        if slot not in rows[number]:
            rows[number].append(slot)

    def connect(before: Slot, after: Slot) -> None:
        if before not in above[after]:
            above[after].append(before)
            below[before].append(after)

    for target in reversed(list(nx.dfs_preorder_nodes(graph.reverse(copy=False), UPDATE))):
        add(box(target), layer_of[target])
    for target in layer_of:
        add(box(target), layer_of[target])
        arrows = [
            (source, data)
            for source, _, data in graph.in_edges(target, data=True)
            if not data["loop"]
        ]
        for source, _ in sorted(arrows, key=lambda arrow: arrow[1]["operand_indices"]):
            add(box(source), layer_of[source])
            before = box(source)
            for number in range(layer_of[source] + 1, layer_of[target]):
                add((source, number), number)
                connect(before, (source, number))
                before = (source, number)
            connect(before, box(target))
    ordered = {box(target) for _, target, mark in graph.edges(data="mark") if mark}
    layers = Layers(rows, above, below, ordered)
    _reduce_crossings(layers)
    return layer_of, layers


def crossings(layers: Layers) -> int:
    """Count the pairs of arrows between neighbouring layers that cross."""
    count = 0
    for before, after in pairwise(layers.rows):
        rank = {slot: index for index, slot in enumerate(before)}
        # For each arrow, from top to bottom of the layer after: the ranks of its start and its end.
        starts = [
            start
            for slot in after
            for start in _in_arrow_order(
                [rank[source] for source in layers.above[slot]], slot in layers.ordered
            )
        ]
        ends = [index for index, slot in enumerate(after) for _ in layers.above[slot]]
        count += sum(
            upper_start > lower_start and ends[upper] < ends[lower]
            for upper, upper_start in enumerate(starts)
            for lower, lower_start in enumerate(starts)
            if upper < lower
        )
    return count


def _in_arrow_order(starts: list[int], is_ordered: bool) -> list[int]:
    """Sort the starts of a box's arrows so that no arrows cross, if any order is allowed."""
    return starts if is_ordered else sorted(starts)


def _reduce_crossings(layers: Layers) -> None:
    """Sort each layer by the mean rank of its neighbours, in forward and backward sweeps.

    The order with the fewest crossings is kept.
    """
    best_rows, fewest_crossings = [list(row) for row in layers.rows], crossings(layers)
    for sweep in range(SWEEPS):
        is_forward = sweep % 2 == 0
        neighbours = layers.above if is_forward else layers.below
        order = range(1, len(layers.rows)) if is_forward else range(len(layers.rows) - 2, -1, -1)
        for number in order:
            fixed_row = layers.rows[number - 1 if is_forward else number + 1]
            rank = {slot: index for index, slot in enumerate(fixed_row)}
            row = layers.rows[number]
            barycentre = {
                slot: _mean(
                    [
                        rank[neighbour]
                        + (0.0 if is_forward else _port_offset(layers.above[neighbour], slot))
                        for neighbour in neighbours[slot]
                    ],
                    default=index,
                )
                for index, slot in enumerate(row)
            }
            row.sort(key=barycentre.__getitem__)
        count = crossings(layers)
        if count < fewest_crossings:
            best_rows, fewest_crossings = [list(row) for row in layers.rows], count
    layers.rows[:] = best_rows


def _port_offset(arrows: list[Slot], source: Slot) -> float:
    """Return the relative height at which an arrow ends: from -0.5 (top) to 0.5 (bottom)."""
    return (arrows.index(source) + 0.5) / len(arrows) - 0.5


def _mean(numbers: list[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def heights(layers: Layers, size: dict[Slot, float], gap: float) -> dict[Slot, float]:
    """Return the vertical position of the middle of each slot, downwards from 0.

    Slots are placed close to their neighbours. Arrows that pass layers are kept straighter than
    arrows between boxes.

    Args:
        layers: the layers with their slots in order.
        size: the height of each slot.
        gap: the minimum distance between two slots of a layer.
    """
    y = dict.fromkeys(size, 0.0)
    count = len(layers.rows)
    for sweep in range(4 * SWEEPS):
        for number in range(count) if sweep % 2 == 0 else range(count - 1, -1, -1):
            row = layers.rows[number]
            targets, weights = [], []
            for slot in row:
                neighbours = [*layers.above[slot], *layers.below[slot]]
                arrow_weights = [_arrow_weight(slot, neighbour) for neighbour in neighbours]
                weights.append(sum(arrow_weights) or 1.0)
                weighted_sum = sum(
                    weight * y[neighbour]
                    for weight, neighbour in zip(arrow_weights, neighbours, strict=True)
                )
                targets.append(weighted_sum / weights[-1])
            spaced = _spaced(targets, weights, [size[slot] for slot in row], gap)
            y |= dict(zip(row, spaced, strict=True))
    _straighten(layers, y, size, gap)
    top = min(y[slot] - size[slot] / 2 for slot in y)
    return {slot: middle - top for slot, middle in y.items()}


def _straighten(layers: Layers, y: dict[Slot, float], size: dict[Slot, float], gap: float) -> None:
    """Place all slots of an arrow at the same height if there is room in each layer."""
    # For each arrow: its slots, each with the slots above and below it in the layer.
    slots_of: dict[str, list[tuple[Slot, Slot | None, Slot | None]]] = defaultdict(list)
    for row in layers.rows:
        for above, slot, below in zip([None, *row], row, [*row[1:], None], strict=False):
            if slot[1] >= 0:
                slots_of[slot[0]].append((slot, above, below))
    for slots in slots_of.values():
        low, high, total = -inf, inf, 0.0
        for slot, above, below in slots:
            total += y[slot]
            if above:
                low = max(low, y[above] + (size[above] + size[slot] + gap) / 2)
            if below:
                high = min(high, y[below] - (size[below] + size[slot] + gap) / 2)
        if low <= high:
            level = min(max(total / len(slots), low), high)
            y |= {slot: level for slot, _, _ in slots}


def _arrow_weight(slot: Slot, neighbour: Slot) -> float:
    """Return the weight of an arrow: 1 between boxes, 8 between slots of an arrow, else 2."""
    passing = (slot[1] >= 0) + (neighbour[1] >= 0)
    return (1.0, 2.0, 8.0)[passing]  # weights of Gansner et al. 1993


def _spaced(
    targets: list[float], weights: list[float], sizes: list[float], gap: float
) -> list[float]:
    """Return the positions nearest to `targets`, in weighted least squares, without overlap.

    Subtracting the minimum distances leaves isotonic regression, which is solved by pooling
    neighbours in the wrong order at their mean (Ayer et al. 1955).
    """
    offsets = [0.0]
    for size, next_size in pairwise(sizes):
        offsets.append(offsets[-1] + (size + next_size) / 2 + gap)
    pools: list[tuple[float, float, int]] = []  # weighted sum, weight and count
    for target, target_weight, offset in zip(targets, weights, offsets, strict=True):
        total, weight, count = target_weight * (target - offset), target_weight, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / weight:
            pool_total, pool_weight, pool_count = pools.pop()
            total, weight, count = total + pool_total, weight + pool_weight, count + pool_count
        pools.append((total, weight, count))
    means = [total / weight for total, weight, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
