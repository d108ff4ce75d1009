"""What a rule may ask about the graph that it rewrites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from primitives.algebra.order import Rank, ranking
from primitives.algebra.ranges import Range, Ranges
from primitives.algebra.terms import Graph, Term, Terms

_LONG = 32


@dataclass(frozen=True)
class Context:
    """A graph with what is known about its values.

    Attributes:
        graph: the graph.
        terms: makes new terms.
        weight: the name of the weights.
    """

    graph: Graph
    terms: Terms
    weight: str

    @cached_property
    def _ranges(self) -> Ranges:
        return Ranges(self.graph)

    def range(self, term: Term) -> Range:
        """The interval that `term` lies in, over all steps."""
        return self._ranges(term)

    @cached_property
    def forms(self) -> dict[tuple[str, Term], Term | None]:
        """Terms in normal form, by the form's name: rules ask again and again in one graph."""
        return {}

    @cached_property
    def rank(self) -> Callable[[Term], Rank]:
        """A sort key that does not depend on names."""
        return ranking(self.graph, self.weight)

    @property
    def is_long(self) -> bool:
        """Whether the graph has so many statements that what takes long is not tried on it."""
        return self.graph.size > _LONG

    def is_shared(self, term: Term) -> bool:
        """Whether more than one place reads `term`."""
        return self.graph.uses.get(term, 0) > 1
