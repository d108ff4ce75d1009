"""Where the boxes and arrows of a program's graph go: layers from left to right.

The method of Sugiyama, Tagawa and Toda 1981: layers, an order in each layer by barycentres so that
few arrows cross, and places that keep arrows straight. An arrow over several layers has a slot in
each layer that it passes, so no arrow runs through a box.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from primitives.explain.dataflow import UPDATE, Graph

SWEEPS = 12
Slot = tuple[str, int]
"""A box, with layer -1, or an arrow's place (its source's name, the layer) where it passes one."""


@dataclass(frozen=True)
class Layers:
    """The slots of each layer from top to bottom, and the arrows between neighbouring layers."""

    rows: list[list[Slot]]
    above: dict[Slot, list[Slot]]
    """For each slot those in the layer before that lead to it, in the order of its operands."""
    below: dict[Slot, list[Slot]]
    ordered: set[Slot]
    """The boxes to which the order of their arrows matters."""


def box(node: str) -> Slot:
    """The slot of a node's box."""
    return node, -1


def layer_numbers(graph: Graph) -> dict[str, int]:
    """The layer of each node: ops right after their operands, sources right before their use."""
    import networkx as nx

    forward = nx.DiGraph()
    forward.add_nodes_from(graph)
    forward.add_edges_from((u, v) for u, v, loop in graph.edges(data="loop") if not loop)
    layer = {
        node: number
        for number, generation in enumerate(nx.topological_generations(forward))
        for node in generation
    }
    last = max(layer.values())
    for node in forward:
        if not forward.in_degree(node):
            layer[node] = min((layer[one] for one in forward.successors(node)), default=last) - 1
    first = min(layer.values())
    return {node: number - first for node, number in layer.items()}


def arrange(graph: Graph) -> tuple[dict[str, int], Layers]:
    """Layers of `graph` and the order of slots in them."""
    import networkx as nx

    numbers = layer_numbers(graph)
    rows: list[list[Slot]] = [[] for _ in range(max(numbers.values()) + 1)]
    above: dict[Slot, list[Slot]] = defaultdict(list)
    below: dict[Slot, list[Slot]] = defaultdict(list)

    def place(slot: Slot, number: int) -> None:
        if slot not in rows[number]:
            rows[number].append(slot)

    def join(before: Slot, after: Slot) -> None:
        if before not in above[after]:
            above[after].append(before)
            below[before].append(after)

    for target in reversed(list(nx.dfs_preorder_nodes(graph.reverse(copy=False), UPDATE))):
        place(box(target), numbers[target])
    for target in numbers:
        place(box(target), numbers[target])
        arrows = [(u, d) for u, _, d in graph.in_edges(target, data=True) if not d["loop"]]
        for source, _ in sorted(arrows, key=lambda arrow: arrow[1]["places"]):
            place(box(source), numbers[source])
            before = box(source)
            for number in range(numbers[source] + 1, numbers[target]):
                place((source, number), number)
                join(before, (source, number))
                before = (source, number)
            join(before, box(target))
    ordered = {box(target) for _, target, mark in graph.edges(data="mark") if mark}
    layers = Layers(rows, above, below, ordered)
    _untangle(layers)
    return numbers, layers


def crossings(layers: Layers) -> int:
    """How many pairs of arrows between neighbouring layers cross."""
    count = 0
    for before, after in pairwise(layers.rows):
        rank = {slot: place for place, slot in enumerate(before)}
        ends = [
            place
            for slot in after
            for place in _as_arranged(
                [rank[source] for source in layers.above[slot]], slot in layers.ordered
            )
        ]
        starts = [place for place, slot in enumerate(after) for _ in layers.above[slot]]
        count += sum(
            a > b and starts[i] < starts[j]
            for i, a in enumerate(ends)
            for j, b in enumerate(ends)
            if i < j
        )
    return count


def _as_arranged(ends: list[int], ordered: bool) -> list[int]:
    """Arrows end at a box in the order of its operands, or, if that is free, without crossing."""
    return ends if ordered else sorted(ends)


def _untangle(layers: Layers) -> None:
    """Sorts each layer by the mean place of its neighbours, back and forth; keeps the best."""
    best, fewest = [list(row) for row in layers.rows], crossings(layers)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        neighbours = layers.above if forth else layers.below
        order = range(1, len(layers.rows)) if forth else range(len(layers.rows) - 2, -1, -1)
        for number in order:
            fixed = layers.rows[number - 1 if forth else number + 1]
            rank = {slot: place for place, slot in enumerate(fixed)}
            row = layers.rows[number]
            wish = {
                slot: _mean(
                    [
                        rank[n] + (0.0 if forth else _share(layers.above[n], slot))
                        for n in neighbours[slot]
                    ],
                    place,
                )
                for place, slot in enumerate(row)
            }
            row.sort(key=wish.__getitem__)
        count = crossings(layers)
        if count < fewest:
            best, fewest = [list(row) for row in layers.rows], count
    layers.rows[:] = best


def _share(arrows: list[Slot], source: Slot) -> float:
    """How far from the middle of a box the arrow from `source` ends, in boxes."""
    return (arrows.index(source) + 0.5) / len(arrows) - 0.5


def _mean(numbers: list[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def heights(layers: Layers, size: dict[Slot, float], gap: float) -> dict[Slot, float]:
    """The middle of each slot, downwards from 0: near its neighbours, `gap` apart at least.

    Where an arrow passes layers, being straight counts more.
    """
    y = dict.fromkeys(size, 0.0)
    count = len(layers.rows)
    for sweep in range(4 * SWEEPS):
        for number in range(count) if sweep % 2 == 0 else range(count - 1, -1, -1):
            row = layers.rows[number]
            wishes, weights = [], []
            for slot in row:
                near = [*layers.above[slot], *layers.below[slot]]
                pulls = [_pull(slot, neighbour) for neighbour in near]
                weights.append(sum(pulls) or 1.0)
                pulled = sum(pull * y[n] for pull, n in zip(pulls, near, strict=True))
                wishes.append(pulled / weights[-1])
            spaced = _spaced(wishes, weights, [size[slot] for slot in row], gap)
            y |= dict(zip(row, spaced, strict=True))
    _straighten(layers, y, size, gap)
    top = min(y[slot] - size[slot] / 2 for slot in y)
    return {slot: middle - top for slot, middle in y.items()}


def _straighten(layers: Layers, y: dict[Slot, float], size: dict[Slot, float], gap: float) -> None:
    """Puts all slots of one arrow at one height where there is room for that."""
    passed: dict[str, list[tuple[Slot, Slot | None, Slot | None]]] = defaultdict(list)
    for row in layers.rows:
        for above, slot, below in zip([None, *row], row, [*row[1:], None], strict=False):
            if slot[1] >= 0:
                passed[slot[0]].append((slot, above, below))
    for places in passed.values():
        low, high, total = -inf, inf, 0.0
        for slot, above, below in places:
            total += y[slot]
            if above:
                low = max(low, y[above] + (size[above] + size[slot] + gap) / 2)
            if below:
                high = min(high, y[below] - (size[below] + size[slot] + gap) / 2)
        if low <= high:
            level = min(max(total / len(places), low), high)
            y |= {slot: level for slot, _, _ in places}


def _pull(slot: Slot, neighbour: Slot) -> float:
    passing = (slot[1] >= 0) + (neighbour[1] >= 0)
    return (1.0, 2.0, 8.0)[passing]  # weights of Gansner et al. 1993


def _spaced(
    wishes: list[float], weights: list[float], sizes: list[float], gap: float
) -> list[float]:
    """The middles nearest to `wishes`, in least squares, that keep order and distance.

    With the distances taken off, that is isotonic regression: neighbours in the wrong order are
    pooled at their mean (Ayer et al. 1955).
    """
    offsets = [0.0]
    for one, following in pairwise(sizes):
        offsets.append(offsets[-1] + (one + following) / 2 + gap)
    pools: list[tuple[float, float, int]] = []  # weighted sum, weight and count
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        total, heavy, count = weight * (wish - offset), weight, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / heavy:
            before, weighing, many = pools.pop()
            total, heavy, count = total + before, heavy + weighing, count + many
        pools.append((total, heavy, count))
    means = [total / heavy for total, heavy, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
