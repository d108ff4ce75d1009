"""A graph and caches of derived properties of its values, as the input of rewrite rules."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import cached_property

from primitives.algebra.order import Hashes, Rank, ranking
from primitives.algebra.products import Expansion, Product, Sum
from primitives.graph.nodes import Graph, Node, Nodes
from primitives.graph.ranges import Intervals, Ranges
from primitives.interval import Interval, exactly

_MAX_STATEMENTS = 24
"""Maximum number of statements of a graph on which slow rules are tried."""


@dataclass(frozen=True)
class Context:
    """A graph and caches of derived properties of its values.

    Attributes:
        graph: the graph.
        nodes: the factory of new nodes.
        forms: cache of normal forms, by the form's name and the node.
        sums: cache of the sums that nodes expand to, by the expansion and the node.
        products: cache of the products that nodes expand to, by the expansion and the node.
        intervals: cache of `Ranges`.
        hashes: cache of `ranking`.
        is_draft: whether the graph is one of many candidates; slow rules are not tried on drafts.
    """

    graph: Graph
    nodes: Nodes
    forms: dict[tuple[str, Node], Node | None] = field(default_factory=dict)
    sums: dict[tuple[Expansion, Node], Sum] = field(default_factory=dict)
    products: dict[tuple[Expansion, Node], Product] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    hashes: Hashes = field(default_factory=dict)
    is_draft: bool = False

    @cached_property
    def ranges(self) -> Ranges:
        """The intervals of all values."""
        starts = {state.name: exactly(state.initial) for state in self.graph.states}
        return Ranges(starts, self.graph.next_values, self.intervals)

    def range(self, node: Node) -> Interval:
        """Return the interval that contains the value of `node` at every step."""
        return self.ranges(node)

    @cached_property
    def rank(self) -> Callable[[Node], Rank]:
        """A sort key of nodes that does not depend on names."""
        return ranking(self.graph, self.hashes)

    def for_graph(self, graph: Graph, *, is_draft: bool = False) -> Context:
        """Return the context of another graph with nodes of the same factory."""
        return Context(
            graph,
            self.nodes,
            intervals=self.intervals,
            hashes=self.hashes,
            is_draft=is_draft,
        )

    def after_rewrite(self, graph: Graph, changed: Set[Node]) -> Context:
        """Return the context of `graph`, a rewritten version of this graph.

        Cached forms of nodes that are not among `changed` are kept. The order of terms and factors
        in a kept form may differ from the order in a form that is computed for `graph`.
        """
        new = self.for_graph(graph)
        if new.ranges.states == self.ranges.states:
            kept = graph.uses.keys() - changed
            new.forms.update({key: form for key, form in self.forms.items() if key[1] in kept})
            for sum_key, terms in self.sums.items():
                if _is_valid_after_rewrite(sum_key, kept):
                    new.sums[sum_key] = terms
            for product_key, product in self.products.items():
                if _is_valid_after_rewrite(product_key, kept):
                    new.products[product_key] = product
        return new

    @property
    def is_large(self) -> bool:
        """Whether slow rules are skipped: the graph is a draft or has too many statements."""
        return self.is_draft or self.graph.size > _MAX_STATEMENTS

    def is_shared(self, node: Node) -> bool:
        """Whether `node` is read more than once."""
        return self.graph.uses.get(node, 0) > 1


def _is_valid_after_rewrite(key: tuple[Expansion, Node], kept: Set[Node]) -> bool:
    expansion, node = key
    return expansion == Expansion.ALL or node in kept
