"""What a rule may ask about the graph that it rewrites."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import cached_property

from primitives.algebra.order import Hashes, Rank, ranking
from primitives.algebra.products import Product, Reach, Sum
from primitives.graph.nodes import Graph, Node, Nodes
from primitives.graph.ranges import Intervals, Ranges
from primitives.interval import Interval, exactly

_LONG = 24


@dataclass(frozen=True)
class Context:
    """A graph with what is known about its values.

    Attributes:
        graph: the graph.
        nodes: makes new nodes.
        forms: nodes in normal form, by the form's name: rules ask again and again.
        sums: nodes read as sums, by how far they are opened.
        products: nodes read as products, likewise.
        intervals: as `Ranges` keeps them.
        hashes: as `ranking` keeps them.
        is_draft: it is one of many to try, so that what takes long is not tried on it.
    """

    graph: Graph
    nodes: Nodes
    forms: dict[tuple[str, Node], Node | None] = field(default_factory=dict)
    sums: dict[tuple[Reach, Node], Sum] = field(default_factory=dict)
    products: dict[tuple[Reach, Node], Product] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    hashes: Hashes = field(default_factory=dict)
    is_draft: bool = False

    @cached_property
    def ranges(self) -> Ranges:
        """The intervals of all values."""
        starts = {state.name: exactly(state.initial) for state in self.graph.states}
        return Ranges(starts, self.graph.following, self.intervals)

    def range(self, node: Node) -> Interval:
        """The interval that `node` lies in, over all steps."""
        return self.ranges(node)

    @cached_property
    def rank(self) -> Callable[[Node], Rank]:
        """A sort key that does not depend on names."""
        return ranking(self.graph, self.hashes)

    def of(self, graph: Graph, *, is_draft: bool = False) -> Context:
        """The context of another graph that shares nodes with this one."""
        return Context(
            graph,
            self.nodes,
            intervals=self.intervals,
            hashes=self.hashes,
            is_draft=is_draft,
        )

    def after(self, graph: Graph, touched: Set[Node]) -> Context:
        """The context of `graph`, which this graph was rewritten to.

        Nodes that the rewrite has not `touched` keep their forms. The order of what is added and
        multiplied in them follows the graph that they were made for, and so may differ from that
        of a context made anew.
        """
        new = self.of(graph)
        if new.ranges.states == self.ranges.states:
            kept = graph.uses.keys() - touched
            new.forms.update({x: known for x, known in self.forms.items() if x[1] in kept})
            new.sums.update({x: known for x, known in self.sums.items() if _lasts(x, kept)})
            new.products.update({x: known for x, known in self.products.items() if _lasts(x, kept)})
        return new

    @property
    def is_long(self) -> bool:
        """Whether the graph has so many statements that what takes long is not tried on it."""
        return self.is_draft or self.graph.size > _LONG

    def is_shared(self, node: Node) -> bool:
        """Whether more than one place reads `node`."""
        return self.graph.uses.get(node, 0) > 1


def _lasts(read: tuple[Reach, Node], kept: Set[Node]) -> bool:
    reach, node = read
    return reach == Reach.ALL or node in kept
