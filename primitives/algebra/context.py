"""What a rule may ask about the graph that it rewrites."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import cached_property

from primitives.algebra.order import Hashes, Rank, ranking
from primitives.algebra.products import Product, Reach, Sum
from primitives.algebra.ranges import Intervals, Range, Ranges
from primitives.algebra.terms import Graph, Term, Terms

_LONG = 24


@dataclass(frozen=True)
class Context:
    """A graph with what is known about its values.

    Attributes:
        graph: the graph.
        terms: makes new terms.
        weight: the name of the weights.
        forms: terms in normal form, by the form's name: rules ask again and again.
        sums: terms read as sums, by how far they are opened.
        products: terms read as products, likewise.
        intervals: as `Ranges` keeps them.
        hashes: as `ranking` keeps them.
        is_draft: it is one of many to try, so that what takes long is not tried on it.
    """

    graph: Graph
    terms: Terms
    weight: str
    forms: dict[tuple[str, Term], Term | None] = field(default_factory=dict)
    sums: dict[tuple[Reach, Term], Sum] = field(default_factory=dict)
    products: dict[tuple[Reach, Term], Product] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    hashes: Hashes = field(default_factory=dict)
    is_draft: bool = False

    @cached_property
    def ranges(self) -> Ranges:
        """The intervals of all values."""
        return Ranges(self.graph, self.intervals)

    def range(self, term: Term) -> Range:
        """The interval that `term` lies in, over all steps."""
        return self.ranges(term)

    @cached_property
    def rank(self) -> Callable[[Term], Rank]:
        """A sort key that does not depend on names."""
        return ranking(self.graph, self.weight, self.hashes)

    def of(self, graph: Graph, *, is_draft: bool = False) -> Context:
        """The context of another graph that shares terms with this one."""
        return Context(
            graph,
            self.terms,
            self.weight,
            intervals=self.intervals,
            hashes=self.hashes,
            is_draft=is_draft,
        )

    def after(self, graph: Graph, touched: Set[Term]) -> Context:
        """The context of `graph`, which this graph was rewritten to.

        Terms that the rewrite has not `touched` keep their forms. The order of what is added and
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

    def is_shared(self, term: Term) -> bool:
        """Whether more than one place reads `term`."""
        return self.graph.uses.get(term, 0) > 1


def _lasts(read: tuple[Reach, Term], kept: Set[Term]) -> bool:
    reach, term = read
    return reach == Reach.ALL or term in kept
